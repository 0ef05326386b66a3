"""Recipes for Cosmos-Predict2. Learning rates, decay and schedules are those of NVIDIA's post-training examples.

Source: cosmos-predict2, configs/base/experiment/cosmos_nemo_assets.py and config_{text2image,video2world}.py.
"""

from __future__ import annotations

from typing import Any

import nemo_run as run

from recipes import defaults

_FULL_RECOMPUTE = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}


def cosmos_v2w_2b() -> run.Partial:
    """Video2World 2B on 8 GPUs of 80 GB: 93 frames at 704x1280 are 84480 tokens, halved by context parallelism."""
    from cosmos_nemo.models.dit.config import Predict2Video2World2BConfig

    return defaults.task(
        model=_model(run.Config(Predict2Video2World2BConfig, **_FULL_RECOMPUTE), _video(state_t=24), ema_rate=0.1),
        data=defaults.data(clips="cosmos_v2w_2b", micro_batch_size=1, global_batch_size=4),
        trainer=defaults.trainer(context_parallel_size=2),
        optim=defaults.optimizer(lr=2**-14.5, weight_decay=0.1, f_max=0.6),
        log=defaults.log(recipe="cosmos_v2w_2b", group="video2world"),
    )


def cosmos_v2w_14b() -> run.Partial:
    """Video2World 14B on 8 GPUs of 80 GB.

    A rank holds an eighth of the network: 3.6 GB of weights, 28 GB of gradients, master weights and moments, and 7 GB
    of averaged weights.
    Recomputing every layer keeps one activation per layer, 36 x 108 MB, sharded by sequence parallelism.
    The global batch is that of the published example (32 GPUs, context parallel 8), by accumulation.
    """
    from cosmos_nemo.models.dit.config import Predict2Video2World14BConfig

    return defaults.task(
        model=_model(run.Config(Predict2Video2World14BConfig, **_FULL_RECOMPUTE), _video(state_t=24), ema_rate=0.1),
        data=defaults.data(clips="cosmos_v2w_14b", micro_batch_size=1, global_batch_size=4),
        trainer=defaults.trainer(tensor_model_parallel_size=8, sequence_parallel=True),
        optim=defaults.optimizer(lr=2**-14.5, weight_decay=0.2, f_max=0.25),
        log=defaults.log(recipe="cosmos_v2w_14b", group="video2world"),
    )


def cosmos_t2i_2b() -> run.Partial:
    """Text2Image 2B on 8 GPUs: an image of 768x1360 is 4080 tokens, so nothing needs to be split or recomputed."""
    from cosmos_nemo.models.dit.config import Predict2Text2Image2BConfig

    return defaults.task(
        model=_model(run.Config(Predict2Text2Image2BConfig), _image(), ema_rate=0.1),
        data=defaults.data(clips="cosmos_t2i_2b", micro_batch_size=1, global_batch_size=8),
        trainer=defaults.trainer(),
        optim=defaults.optimizer(lr=2**-15, weight_decay=0.1, f_max=0.17),
        log=defaults.log(recipe="cosmos_t2i_2b", group="text2image"),
    )


def cosmos_t2i_14b() -> run.Partial:
    """Text2Image 14B on 8 GPUs of 80 GB: as `cosmos_v2w_14b`, with all 8 images of a batch in one pass."""
    from cosmos_nemo.models.dit.config import Predict2Text2Image14BConfig

    return defaults.task(
        model=_model(run.Config(Predict2Text2Image14BConfig, **_FULL_RECOMPUTE), _image(), ema_rate=0.1),
        data=defaults.data(clips="cosmos_t2i_14b", micro_batch_size=8, global_batch_size=8),
        trainer=defaults.trainer(tensor_model_parallel_size=8, sequence_parallel=True),
        optim=defaults.optimizer(lr=2**-14.5, weight_decay=0.2, f_max=0.4),
        log=defaults.log(recipe="cosmos_t2i_14b", group="text2image"),
    )


def cosmos_v2w_tiny() -> run.Partial:
    """Video2World with 4 layers of width 128, from random weights, in fp32 on whatever is there."""
    from cosmos_nemo.models.dit.config import Predict2Video2WorldTinyConfig

    return defaults.task(
        # 17 frames are 5 latent frames.
        model=_model(run.Config(Predict2Video2WorldTinyConfig), _video(state_t=5)),
        data=defaults.data(clips="cosmos_v2w_tiny", micro_batch_size=2, global_batch_size=4, num_workers=0),
        trainer=defaults.trainer(max_steps=100, devices=1, accelerator="auto", precision=defaults.fp32()),
        # Narrow and from random weights it can be larger than the published ones; the decay makes the end less noisy.
        optim=defaults.optimizer(lr=4e-3, weight_decay=0.1, f_max=1.0, f_min=0.05),
        log=defaults.log(recipe="cosmos_v2w_tiny", group="video2world", save_every_n_steps=100),
    )


def cosmos_v2w_tiny_lora() -> run.Partial:
    """`cosmos_v2w_tiny` with adapters of rank 4: give the run to adapt as model.dit_path."""
    return defaults.with_adapters(cosmos_v2w_tiny(), "cosmos_v2w_tiny_lora", rank=4, init="kaiming_uniform")


def cosmos_t2i_tiny() -> run.Partial:
    """Text2Image with 4 layers of width 128; as `cosmos_v2w_tiny`."""
    from cosmos_nemo.models.dit.config import Predict2Text2ImageTinyConfig

    return defaults.task(
        model=_model(run.Config(Predict2Text2ImageTinyConfig), _image()),
        data=defaults.data(clips="cosmos_t2i_tiny", micro_batch_size=2, global_batch_size=4, num_workers=0),
        trainer=defaults.trainer(max_steps=100, devices=1, accelerator="auto", precision=defaults.fp32()),
        optim=defaults.optimizer(lr=1e-3, weight_decay=0.1, f_max=1.0, f_min=1.0),
        log=defaults.log(recipe="cosmos_t2i_tiny", group="text2image", save_every_n_steps=100),
    )


def _model(config: run.Config, objective: run.Config, ema_rate: float | None = None) -> run.Config:
    from cosmos_nemo.lightning.diffusion import DiTModule

    return run.Config(DiTModule, config=config, objective=objective, dit_path=None, seed=0, ema_rate=ema_rate)


def _video(**fields: Any) -> run.Config:
    from cosmos_nemo.diffusion.predict2 import Predict2Objective

    return run.Config(Predict2Objective, **fields)


def _image() -> run.Config:
    from cosmos_nemo.diffusion.predict2 import TEXT2IMAGE

    return _video(**TEXT2IMAGE)
