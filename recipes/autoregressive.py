"""Recipes for the autoregressive networks of Cosmos-Predict1.

Weight decay, betas, clipping and the form of the schedule are upstream's. Its learning rate is 1e-3 behind a warm-up of
5000 steps in a run of 50000; a post-training run of 1000 steps would see no more than the first fifth of that warm-up.
Here it is 5e-5, that of NVIDIA's NeMo recipe for the same networks, behind 50 steps.

Source: cosmos-predict1, autoregressive/configs/experiment/video2video/basic.py and configs/registry.py; NVIDIA/Cosmos,
cosmos1/models/autoregressive/nemo/post_training/general.py.
"""

from __future__ import annotations

import nemo_run as run

from recipes import defaults

_FULL_RECOMPUTE = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}


def cosmos_ar_4b() -> run.Partial:
    """4B on one GPU of 80 GB: 33 frames at 384x640 are 4800 tokens.

    8 GB of weights and 48 GB of master weights and moments leave no room for fp32 gradients (16 GB): they are bf16,
    which loses nothing while one process sums one micro batch. For 640x848 (10600 tokens) set
    trainer.strategy.tensor_model_parallel_size=4, trainer.devices=4 and data.window.height=640 data.window.width=848
    (or give token shards of that size).
    """
    from cosmos_nemo.models.autoregressive.config import AR4BConfig

    return defaults.task(
        model=_model(run.Config(AR4BConfig, **_FULL_RECOMPUTE)),
        data=defaults.data(clips="cosmos_ar_4b", micro_batch_size=1, global_batch_size=1),
        trainer=defaults.trainer(devices=1, precision=defaults.bf16(grad_reduce_in_fp32=False)),
        optim=_optimizer(lr=5e-5),
        log=defaults.log(recipe="cosmos_ar_4b", group="autoregressive"),
    )


def cosmos_ar_4b_lora() -> run.Partial:
    """`cosmos_ar_4b` with adapters of rank 16 on every linear layer of a frozen network: 21 M parameters beside 4 B.

    No master weights, moments or gradients of the network: about 12 GB instead of 65.
    """
    task = _with_adapters(cosmos_ar_4b(), "cosmos_ar_4b_lora", rank=16)
    task.trainer.plugins = defaults.bf16()
    return task


def cosmos_ar_12b() -> run.Partial:
    """12B on 8 GPUs of 80 GB: 33 frames at 640x1024 are 12800 tokens, of which a rank holds an eighth between layers.

    A rank has 2.9 GB of weights and 23 GB of gradients, master weights and moments.
    """
    from cosmos_nemo.models.autoregressive.config import AR12BConfig

    return defaults.task(
        model=_model(run.Config(AR12BConfig, **_FULL_RECOMPUTE)),
        data=defaults.data(clips="cosmos_ar_12b", micro_batch_size=1, global_batch_size=1),
        trainer=defaults.trainer(tensor_model_parallel_size=8, sequence_parallel=True),
        optim=_optimizer(lr=5e-5),
        log=defaults.log(recipe="cosmos_ar_12b", group="autoregressive"),
    )


def cosmos_ar_v2w_5b() -> run.Partial:
    """Video2World 5B, which reads text, on 8 GPUs: token shards with T5 embeddings, 33 frames at 640x1024."""
    from cosmos_nemo.models.autoregressive.config import ARVideo2World5BConfig

    return defaults.task(
        model=_model(run.Config(ARVideo2World5BConfig, **_FULL_RECOMPUTE)),
        data=defaults.data(clips="cosmos_ar_v2w_5b", micro_batch_size=1, global_batch_size=2),
        trainer=defaults.trainer(tensor_model_parallel_size=4, sequence_parallel=True),
        optim=_optimizer(lr=5e-5),
        log=defaults.log(recipe="cosmos_ar_v2w_5b", group="autoregressive"),
    )


def cosmos_ar_v2w_13b() -> run.Partial:
    """Video2World 13B on 8 GPUs of 80 GB: as `cosmos_ar_v2w_5b`, every layer cut in eight."""
    from cosmos_nemo.models.autoregressive.config import ARVideo2World13BConfig

    return defaults.task(
        model=_model(run.Config(ARVideo2World13BConfig, **_FULL_RECOMPUTE)),
        data=defaults.data(clips="cosmos_ar_v2w_13b", micro_batch_size=1, global_batch_size=1),
        trainer=defaults.trainer(tensor_model_parallel_size=8, sequence_parallel=True),
        optim=_optimizer(lr=5e-5),
        log=defaults.log(recipe="cosmos_ar_v2w_13b", group="autoregressive"),
    )


def cosmos_ar_tiny() -> run.Partial:
    """4 layers of width 128 with the whole vocabulary, from random weights, in fp32 on whatever is there."""
    from cosmos_nemo.models.autoregressive.config import ARTinyConfig

    return defaults.task(
        model=_model(run.Config(ARTinyConfig)),
        data=defaults.data(clips="cosmos_ar_tiny", micro_batch_size=1, global_batch_size=4, num_workers=0),
        trainer=defaults.trainer(max_steps=100, devices=1, accelerator="auto", precision=defaults.fp32()),
        optim=_optimizer(lr=1e-3, warm_up_steps=5),
        log=defaults.log(recipe="cosmos_ar_tiny", group="autoregressive", save_every_n_steps=100),
    )


def cosmos_ar_tiny_lora() -> run.Partial:
    """`cosmos_ar_tiny` with adapters of rank 4: give the run to adapt as model.ar_path."""
    return _with_adapters(cosmos_ar_tiny(), "cosmos_ar_tiny_lora", rank=4)


def _with_adapters(task: run.Partial, name: str, *, rank: int) -> run.Partial:
    """The recipe with a frozen network; twice the learning rate, and no decay, which would pull adapters to zero."""
    task.optim.config.lr *= 2
    task.optim.config.weight_decay = 0.0
    return defaults.with_adapters(task, name, rank=rank, init="fan_in")


def _model(config: run.Config) -> run.Config:
    from cosmos_nemo.lightning.autoregressive import ARModule
    from cosmos_nemo.models.autoregressive.loss import NextTokenObjective

    return run.Config(ARModule, config=config, objective=run.Config(NextTokenObjective), ar_path=None, seed=0)


def _optimizer(*, lr: float, warm_up_steps: int = 50) -> run.Config:
    """AdamW with warm-up and half a cosine to zero; weight decay acts on every tensor, as upstream."""
    from megatron.core.optimizer import OptimizerConfig

    from cosmos_nemo.lightning.optim import UniformDecayOptimizer, WarmupCosine

    return run.Config(
        UniformDecayOptimizer,
        config=run.Config(
            OptimizerConfig,
            optimizer="adam",
            lr=lr,
            weight_decay=0.05,
            adam_beta1=0.9,
            adam_beta2=0.999,
            adam_eps=1e-8,
            clip_grad=1.0,
            use_distributed_optimizer=True,
        ),
        lr_scheduler=run.Config(WarmupCosine, warm_up_steps=warm_up_steps, decay_steps=None, min_factor=0.0),
    )
