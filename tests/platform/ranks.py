"""What each rank runs in the platform tests: real Megatron-core, without NeMo."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cosmos_nemo.platform.install import install


def _toy_model() -> nn.Module:
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
    from megatron.core.transformer.module import MegatronModule
    from megatron.core.transformer.transformer_config import TransformerConfig

    class Toy(MegatronModule):
        def __init__(self, config: TransformerConfig) -> None:
            super().__init__(config)
            options = {"config": config, "init_method": nn.init.xavier_uniform_, "bias": False}
            self.up = ColumnParallelLinear(8, 16, gather_output=False, **options)
            self.down = RowParallelLinear(16, 8, input_is_parallel=True, skip_bias_add=False, **options)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(torch.tanh(self.up(x)[0]))[0]

        def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: Any = None) -> dict:
            state = self.up.sharded_state_dict(f"{prefix}up.", sharded_offsets, metadata)
            return state | self.down.sharded_state_dict(f"{prefix}down.", sharded_offsets, metadata)

    tensor = int(os.environ.get("TOY_TENSOR_PARALLEL", "1"))
    config = TransformerConfig(
        num_layers=1,
        hidden_size=8,
        num_attention_heads=2,
        tensor_model_parallel_size=tensor,
        use_cpu_initialization=True,
        gradient_accumulation_fusion=False,
        params_dtype=torch.bfloat16 if os.environ.get("TOY_BF16") else torch.float32,
        bf16=bool(os.environ.get("TOY_BF16")),
    )
    torch.manual_seed(5)
    return Toy(config)


def _train(model: nn.Module, optimizer: Any, steps: range) -> list[float]:
    from megatron.core import parallel_state
    from megatron.core.distributed import finalize_model_grads

    rank, size = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
    losses = []
    for step in steps:
        model.zero_grad_buffer()
        optimizer.zero_grad()
        x = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(step)).chunk(size)[rank]
        x = x.to(next(model.parameters()).dtype)
        loss = (model(x).float() - x.float().flip(-1)).square().mean()
        loss.backward()
        finalize_model_grads([model], None)
        done, grad_norm, _ = optimizer.step()
        assert done and grad_norm > 0
        mean = loss.detach().clone()
        torch.distributed.all_reduce(mean, group=parallel_state.get_data_parallel_group())
        losses.append(mean.item() / size)
    return losses


def _build(tensor: int) -> tuple[nn.Module, Any]:
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    model_parallel_cuda_manual_seed(1)
    module = _toy_model()
    ddp_config = DistributedDataParallelConfig(use_distributed_optimizer=True, check_for_nan_in_grad=True)
    model = DistributedDataParallel(module.config, ddp_config, module)
    config = OptimizerConfig(
        optimizer="adam",
        lr=0.05,
        weight_decay=0.1,
        clip_grad=0.1,
        use_distributed_optimizer=True,
        bf16=module.config.bf16,
        params_dtype=module.config.params_dtype,
    )
    return model, get_megatron_optimizer(config, [model])


def _states(model: nn.Module, optimizer: Any, is_loading: bool) -> dict[str, Any]:
    model_state = model.module.sharded_state_dict()
    optimizer_state = optimizer.sharded_state_dict(
        model_state, is_loading=is_loading, metadata={"distrib_optim_sharding_type": "fully_reshardable"}
    )
    return {"model": model_state, "optimizer": optimizer_state}


def train_save_load(folder: str, tensor: int, bf16: bool = False) -> list[dict[str, Any]]:
    """Trains, saves and loads in fp32, and in bf16 as well if asked."""
    os.environ["TOY_TENSOR_PARALLEL"] = str(tensor)
    install()
    from megatron.core import parallel_state

    torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=tensor)
    results = [_train_save_load(folder, tensor)]
    if bf16:
        os.environ["TOY_BF16"] = "1"
        results.append(_train_save_load(f"{folder}_bf16", tensor))
    return results


def _train_save_load(folder: str, tensor: int) -> dict[str, Any]:
    """Six steps in a row, then three steps, save, a new model, load, three steps."""
    from megatron.core import dist_checkpointing
    from megatron.core.tensor_parallel import checkpoint, get_cuda_rng_tracker

    model, optimizer = _build(tensor)
    straight = _train(model, optimizer, range(6))
    final = [p.detach().clone() for p in model.parameters()]

    model, optimizer = _build(tensor)
    resumed = _train(model, optimizer, range(3))
    if torch.distributed.get_rank() == 0:
        Path(folder).mkdir()
    torch.distributed.barrier()
    dist_checkpointing.save(_states(model, optimizer, is_loading=False), folder)
    model, optimizer = _build(tensor)
    loaded = dist_checkpointing.load(_states(model, optimizer, is_loading=True), folder)
    model.module.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    resumed += _train(model, optimizer, range(3, 6))

    with get_cuda_rng_tracker().fork():
        drawn = torch.rand(1).item()
    x = torch.randn(4, 1, 8, requires_grad=True)
    checkpoint(lambda y: torch.nn.functional.dropout(y.sin(), 0.5), False, x).sum().backward()
    return {
        "straight": straight,
        "resumed": resumed,
        "same_parameters": all(torch.equal(a, b.detach()) for a, b in zip(final, model.parameters(), strict=True)),
        "parameters": [p.float().tolist() for p in final],
        "step": optimizer.state_dict()["optimizer"]["param_groups"][0]["step"],
        "tensor_parallel_draw": drawn,
        "recompute_has_gradient": bool(x.grad.abs().sum() > 0),
    }


def what_users_see() -> dict[str, Any]:
    """State of the user's own torch after `install`."""
    modules_before = set(sys.modules)
    importlib_silent = "megatron" not in modules_before
    current_device, tensor = torch.cuda.current_device, torch.tensor
    install()
    install()
    import megatron.core
    from megatron.core.optimizer import optimizer

    megatron.core.__version__, known = "0.99.0", megatron.core.__version__
    try:
        install()
        refused = ""
    except ValueError as error:
        refused = f"{type(error).__name__}: {error}"
    megatron.core.__version__ = known
    return {
        "refused": refused,
        "import_is_light": importlib_silent,
        "torch_untouched": torch.cuda.current_device is current_device and torch.tensor is tensor,
        "type": torch.zeros(1).type(),
        "cuda_available": torch.cuda.is_available(),
        "no_mode_left": len(torch.overrides._get_current_function_mode_stack()),
        "megatron_sees": str(optimizer.torch.zeros(1, device="cuda").device),
        "pinned_move": type(optimizer.torch.tensor(1.0, pin_memory=True).to("cuda", non_blocking=True)).__name__,
    }
