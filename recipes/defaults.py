"""What recipes have in common, one function per part. NeMo is imported when a part is built, not before."""

from __future__ import annotations

import nemo_run as run


def task(model: run.Config, data: run.Config, trainer: run.Config, optim: run.Config, log: run.Config) -> run.Partial:
    """Put the parts of a recipe together: a `run.Partial` of `cosmos_nemo.lightning.train.train`."""
    from cosmos_nemo.lightning.train import train

    return run.Partial(train, model=model, data=data, trainer=trainer, optim=optim, log=log, resume=resume())


def with_adapters(task: run.Partial, name: str, *, rank: int, init: str) -> run.Partial:
    """Turn a recipe into one that trains adapters on its network, frozen; alpha is the rank.

    Args:
        task: the recipe; changed in place.
        name: of the new recipe.
        rank: of the adapters.
        init: see `LoRA`.
    """
    from cosmos_nemo.models.common.lora import LoRA

    task.model.lora = run.Config(LoRA, rank=rank, alpha=float(rank), init=init)
    task.log.name = task.log.recipe = name
    return task


def trainer(
    *,
    max_steps: int = 1000,
    devices: int = 8,
    accelerator: str = "gpu",
    precision: run.Config | None = None,
    tensor_model_parallel_size: int = 1,
    sequence_parallel: bool = False,
    context_parallel_size: int = 1,
) -> run.Config:
    """NeMo's trainer under Megatron's strategy; the batch sizes belong to the data, the gradient clip to the optimizer.

    Args:
        max_steps: optimizer steps; 1000 in the published post-training examples.
        devices: processes per node.
        accelerator: gpu, cpu, or auto to take what is there.
        precision: a precision plugin; `bf16()` if left out.
        tensor_model_parallel_size: ranks that share every layer.
        sequence_parallel: whether those ranks also share the tokens between layers.
        context_parallel_size: ranks that share the tokens of one sample.
    """
    import nemo.lightning as nl

    strategy = run.Config(
        nl.MegatronStrategy,
        tensor_model_parallel_size=tensor_model_parallel_size,
        pipeline_model_parallel_size=1,
        context_parallel_size=context_parallel_size,
        sequence_parallel=sequence_parallel,
        # The other formats either cannot be loaded with fp32 weights or not at another parallel size.
        ckpt_optim_fully_reshardable=True,
        ckpt_async_save=False,
        ckpt_load_strictness="raise_all",
    )
    return run.Config(
        nl.Trainer,
        max_steps=max_steps,
        devices=devices,
        num_nodes=1,
        accelerator=accelerator,
        strategy=strategy,
        plugins=precision or bf16(),
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # Energon shards the data
    )


def bf16(*, grad_reduce_in_fp32: bool = True) -> run.Config:
    """Weights and activations in bf16; master weights and Adam's moments in fp32.

    Args:
        grad_reduce_in_fp32: whether gradients are summed in fp32, at 4 bytes per parameter instead of 2.
    """
    import nemo.lightning as nl
    import torch

    return run.Config(
        nl.MegatronMixedPrecision,
        precision="bf16-mixed",
        params_dtype=torch.bfloat16,
        pipeline_dtype=torch.bfloat16,
        autocast_enabled=False,
        grad_reduce_in_fp32=grad_reduce_in_fp32,
    )


def fp32() -> run.Config:
    """Everything in fp32: what a CPU is fast at, and what two runs can be compared in."""
    import nemo.lightning as nl

    return run.Config(nl.MegatronMixedPrecision, precision="32")


def optimizer(
    *,
    lr: float,
    weight_decay: float,
    f_max: float,
    f_min: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.99),
    clip_grad: float = 1.0,
) -> run.Config:
    """AdamW as in the published examples; weight decay acts on every tensor.

    Args:
        lr: learning rate before the schedule's factor.
        weight_decay: decoupled weight decay.
        betas: decay of Adam's moments.
        clip_grad: largest norm of the gradient.
        f_max: factor of the schedule at the first step; there is no warm-up.
        f_min: factor at the last step. The schedule is as long as the run, 1000 steps in the published examples.

    Source: cosmos-predict2, configs/base/experiment/cosmos_nemo_assets.py.
    """
    from megatron.core.optimizer import OptimizerConfig

    from cosmos_nemo.lightning.optim import LambdaLinear, UniformDecayOptimizer

    return run.Config(
        UniformDecayOptimizer,
        config=run.Config(
            OptimizerConfig,
            optimizer="adam",
            lr=lr,
            weight_decay=weight_decay,
            adam_beta1=betas[0],
            adam_beta2=betas[1],
            adam_eps=1e-8,
            clip_grad=clip_grad,
            use_distributed_optimizer=True,
        ),
        lr_scheduler=run.Config(
            LambdaLinear, warm_up_steps=[0], cycle_lengths=None, f_start=[1e-6], f_max=[f_max], f_min=[f_min]
        ),
    )


def data(*, clips: str, micro_batch_size: int, global_batch_size: int, num_workers: int = 8) -> run.Config:
    """Samples from Energon shards, or raw video cut to the recipe's clips; `data.path` is what the user fills in.

    Args:
        clips: recipe in the table of clips, which says how long texts are and what is cut out of raw video.
        micro_batch_size: samples per forward pass on one rank.
        global_batch_size: samples per optimizer step over all ranks.
        num_workers: reader processes per rank.
    """
    from cosmos_nemo.data.clip_specs import clip_spec
    from cosmos_nemo.data.window import ClipWindow
    from cosmos_nemo.lightning.data import EnergonDataModule

    spec = clip_spec(clips)

    return run.Config(
        EnergonDataModule,
        path="",
        micro_batch_size=micro_batch_size,
        global_batch_size=global_batch_size,
        num_workers=num_workers,
        text_length=spec.text_length,
        window=run.Config(ClipWindow, num_frames=spec.num_frames, height=spec.height, width=spec.width, space=spec.fit),
    )


def log(*, recipe: str, group: str, save_every_n_steps: int = 500) -> run.Config:
    """Checkpoints and metrics go to OUTPUT_ROOT/posttraining/GROUP/NAME; NAME is the recipe's until it is changed.

    Args:
        recipe: name of the recipe.
        group: the task.
        save_every_n_steps: optimizer steps between checkpoints; 500 in the published examples.
    """
    from cosmos_nemo.runs.log import RunLog

    return run.Config(
        RunLog,
        project="posttraining",
        group=group,
        name=recipe,
        recipe=recipe,
        output_root=None,
        save_every_n_steps=save_every_n_steps,
        wandb="off",
    )


def resume() -> run.Config:
    """Continue the run of that name if there is one."""
    from cosmos_nemo.runs.start import Resume

    return run.Config(Resume, resume_if_exists=True, path=None)
