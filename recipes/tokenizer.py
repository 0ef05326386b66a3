"""Recipes for the Cosmos video tokenizers. The numbers are those of NVIDIA's NeMo post-training.

Source: NVIDIA/Cosmos 1.0, cosmos1/models/tokenizer/nemo; what it leaves out (clipping of the gradient, an average of
the weights) is taken from cosmos-predict1, cosmos_predict1/tokenizer/training.
"""

from __future__ import annotations

from typing import Any

import nemo_run as run

from recipes import defaults

_BETAS = (0.5, 0.999)


def cosmos_tokenizer_cv8x8x8() -> run.Partial:
    """Continuous latents, on 8 GPUs: clips of 49 frames, 256x256 pixels."""
    return _published("cosmos_tokenizer_cv8x8x8", model="Cosmos-1.0-Tokenizer-CV8x8x8")


def cosmos_tokenizer_dv8x16x16() -> run.Partial:
    """Discrete tokens, on 8 GPUs: as `cosmos_tokenizer_cv8x8x8`."""
    return _published("cosmos_tokenizer_dv8x16x16", model="Cosmos-1.0-Tokenizer-DV8x16x16")


def cosmos_tokenizer_cv_tiny() -> run.Partial:
    """CV4x8x8 with narrow layers, from random weights, in fp32 on whatever is there.

    Its latents have the compression of Predict2's tokenizer, so that `cosmos_v2w_tiny` can be trained on them.
    """
    from cosmos_nemo.tokenizers.cosmos.config import TinyCV4x8x8Config

    return _tiny("cosmos_tokenizer_cv_tiny", model="Cosmos-Tokenize1-CV4x8x8-360p", network=TinyCV4x8x8Config)


def cosmos_tokenizer_dv_tiny() -> run.Partial:
    """DV8x16x16 with narrow layers; as `cosmos_tokenizer_cv_tiny`."""
    from cosmos_nemo.tokenizers.cosmos.config import TinyDV8x16x16Config

    return _tiny("cosmos_tokenizer_dv_tiny", model="Cosmos-1.0-Tokenizer-DV8x16x16", network=TinyDV8x16x16Config)


def _published(name: str, *, model: str) -> run.Partial:
    return defaults.task(
        model=_module(model=model, ema_decay=0.9999),
        data=_clips(micro_batch_size=1, global_batch_size=8),
        trainer=defaults.trainer(),
        optim=defaults.optimizer(lr=1e-4, weight_decay=0.01, f_max=1.0, f_min=1.0, betas=_BETAS),
        log=defaults.log(recipe=name, group="tokenizer", save_every_n_steps=100),
    )


def _tiny(name: str, *, model: str, network: Any) -> run.Partial:
    """For random weights: small crops and a squared term get further in the same time than whole pictures do."""
    return defaults.task(
        model=_module(model=model, network=run.Config(network), ema_decay=0.99, squared=3.0),
        data=_clips(
            micro_batch_size=2,
            global_batch_size=4,
            num_workers=0,
            window={"num_frames": 9, "height": 32, "width": 48},
            val_window={"num_frames": 9, "height": 64, "width": 96},
        ),
        trainer=defaults.trainer(max_steps=1500, devices=1, accelerator="auto", precision=defaults.fp32()),
        optim=defaults.optimizer(lr=1e-3, weight_decay=0.01, f_max=1.0, f_min=0.05, betas=(0.9, 0.98)),
        log=defaults.log(recipe=name, group="tokenizer", save_every_n_steps=500),
    )


def _module(*, squared: float = 0.0, **fields: Any) -> run.Config:
    from cosmos_nemo.lightning.tokenizer import TokenizerModule

    return run.Config(TokenizerModule, jit_ckpt_pth=None, loss=_loss(squared), seed=0, **fields)


def _loss(squared: float) -> run.Config:
    """The default weights, each schedule a config of its own, so that `model.loss.flow.values=[0]` can be said."""
    from cosmos_nemo.tokenizers.losses.video_loss import Schedule, VideoLossConfig

    default = VideoLossConfig(squared=Schedule(values=(squared,)))
    schedules = {name: getattr(default, name) for name in ("color", "squared", "perceptual", "gram", "flow")}
    return run.Config(
        VideoLossConfig,
        **{n: run.Config(Schedule, boundaries=list(s.boundaries), values=list(s.values)) for n, s in schedules.items()},
    )


def _clips(
    *,
    micro_batch_size: int,
    global_batch_size: int,
    num_workers: int = 8,
    window: dict[str, int] | None = None,
    val_window: dict[str, int] | None = None,
) -> run.Config:
    from cosmos_nemo.data.window import ClipWindow
    from cosmos_nemo.lightning.data import EnergonDataModule

    return run.Config(
        EnergonDataModule,
        window=run.Config(ClipWindow, **(window or {})),
        val_window=None if val_window is None else run.Config(ClipWindow, **val_window),
        path="",
        micro_batch_size=micro_batch_size,
        global_batch_size=global_batch_size,
        num_workers=num_workers,
    )
