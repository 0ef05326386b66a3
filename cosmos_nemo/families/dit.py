"""What the families of diffusion transformers share: how the network is built, what data fits it, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Family, SampleWork

if TYPE_CHECKING:
    from cosmos_nemo.models.dit.config import DiTConfig


class DiTFamily(Family):
    """A family whose network is a `DiT` with a `DiTConfig` of its own; a subclass names it and its sizes."""

    reads = "latent"
    parallelism = frozenset({"tensor", "sequence", "context"})

    def build(self, config: DiTConfig, *, seed: int | None = None) -> nn.Module:
        """Return the network; see `Family`. `init_seed` of the config takes the place of the seed where it is set."""
        from cosmos_nemo.models.dit.model import DiT

        config.perform_initialization = seed is not None
        if config.init_seed is None and seed is not None:
            config.init_seed = seed
        return DiT(config)

    def fit(self, config: Any, dataset: Dataset) -> None:
        """Compare latents, text and sizes with the network; see `Family`."""
        field, side = dataset.field, config.patch_spatial
        if dataset.latent_shape is None:
            raise UserError(
                f"{field} holds {dataset.kind} samples for the task {dataset.task}; this model is trained on "
                "latents: prepare the shards with `python -m data_prep shards --for v2w` or `--for t2i`."
            )
        dataset.require_text(config.crossattn_emb_channels)
        channels, frames, height, width = dataset.latent_shape
        if channels != config.in_channels:
            raise UserError(f"{field} has {channels} latent channels, the model takes {config.in_channels}.")
        if height % side or width % side:
            raise UserError(
                f"{field} has latents of {height}x{width}; both must be multiples of {side}: prepare "
                f"the shards with a --height and --width that are multiples of {8 * side}."
            )
        if not config.video_condition and frames > 1:
            raise UserError(
                f"{field} has clips of {frames} latent frames, but this is a text2image model; prepare the shards with "
                "--num-frames 1, or choose a v2w recipe."
            )
        limits = {
            "frames": (frames, config.max_frames),
            "height": (height, config.max_img_h),
            "width": (width, config.max_img_w),
        }
        for name, (value, limit) in limits.items():
            if value > limit:
                raise UserError(f"{field} has latent {name} {value}; the model's positions end at {limit}.")

    def work(self, config: Any, dataset: Dataset) -> SampleWork:
        """Return the video tokens of a sample and the products they take; see `Family`."""
        from cosmos_nemo.models.dit.flops import forward_flops

        assert dataset.latent_shape is not None and dataset.text_length is not None
        _, frames, height, width = dataset.latent_shape
        tokens = frames * (height // config.patch_spatial) * (width // config.patch_spatial)
        return SampleWork(tokens=tokens, forward_flops=forward_flops(config, tokens, dataset.text_length, 1))
