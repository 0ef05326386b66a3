"""What the families of diffusion transformers share: how the network is built, what data fits it, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Family, SampleWork

if TYPE_CHECKING:
    from cosmos_nemo.models.dit.config import DiTConfig


class DiTFamily(Family):
    """A family whose network is a `DiT` with a `DiTConfig` of its own; a subclass names it and its sizes."""

    parallelism = frozenset({"tensor", "sequence", "context"})

    def build(self, config: DiTConfig, *, seed: int | None = None) -> nn.Module:
        """Return the network; see `Family`. `init_seed` of the config takes the place of the seed where it is set."""
        from cosmos_nemo.models.dit.model import DiT

        config.perform_initialization = seed is not None
        if config.init_seed is None and seed is not None:
            config.init_seed = seed
        return DiT(config)

    def fit(self, config: Any, manifest: Manifest, *, field: str = "data.path") -> None:
        """Compare latents, text and sizes with the network; see `Family`."""
        if manifest.latent_shape is None:
            raise UserError(
                f"{field} holds {manifest.kind} samples for the task {manifest.task}; this model is trained on "
                "latents: prepare the shards with `python -m data_prep shards --for v2w` or `--for t2i`."
            )
        channels, frames, height, width = manifest.latent_shape
        if manifest.text_width != config.crossattn_emb_channels:
            raise UserError(
                f"{field} has text embeddings of width {manifest.text_width}, the model takes model.config."
                f"crossattn_emb_channels={config.crossattn_emb_channels}; prepare the shards with the model's text "
                "encoder."
            )
        if channels != config.in_channels:
            raise UserError(f"{field} has {channels} latent channels, the model takes {config.in_channels}.")
        if height % config.patch_spatial or width % config.patch_spatial:
            raise UserError(
                f"{field} has latents of {height}x{width}; both must be multiples of {config.patch_spatial}: prepare "
                f"the shards with a --height and --width that are multiples of {8 * config.patch_spatial}."
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

    def work(self, config: Any, manifest: Manifest, *, text_length: int | None = None) -> SampleWork:
        """Return the video tokens of a sample and the products they take; see `Family`."""
        from cosmos_nemo.models.dit.flops import forward_flops

        assert manifest.latent_shape is not None and text_length is not None
        _, frames, height, width = manifest.latent_shape
        tokens = frames * (height // config.patch_spatial) * (width // config.patch_spatial)
        return SampleWork(tokens=tokens, forward_flops=forward_flops(config, tokens, text_length, 1))
