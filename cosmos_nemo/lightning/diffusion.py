"""The diffusion family: a DiT with a diffusion objective, on latents that were encoded beforehand."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cosmos_nemo.data.batch import DiffusionBatch
from cosmos_nemo.data.manifest import EncoderRef, Manifest
from cosmos_nemo.diffusion.denoising import Objective, drop_text
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from cosmos_nemo.lightning.data import EnergonDataModule
from cosmos_nemo.lightning.family import VALIDATION_STEP, Dataset
from cosmos_nemo.lightning.published_weights import FromPublished
from cosmos_nemo.lightning.throughput import Work
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.models.dit.conditions import Conditions
from cosmos_nemo.models.dit.config import DiTConfig

if TYPE_CHECKING:
    from cosmos_nemo.data.loader import SampleTaskEncoder, SkippedSamples

logger = logging.getLogger(__name__)


class DiffusionDataModule(EnergonDataModule):
    """Latents and text embeddings, or video files that are encoded as they are read; see `EnergonDataModule`.

    Args:
        text_length: tokens every text embedding is padded to.
        window: what is cut out of a video file; not used for latents.
        tokenizer_path: encodes video files; not used for latents.
        **settings: those of `EnergonDataModule`.
    """

    def __init__(
        self, text_length: int = 512, window: Any = None, tokenizer_path: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.text_length = text_length
        self.window = window
        self.tokenizer_path = tokenizer_path

    def make_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """See `EnergonDataModule`."""
        return self._encoder(manifest, skipped, still=False)

    def make_val_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """See `EnergonDataModule`; clips from the middle of the files."""
        return self._encoder(manifest, skipped, still=True)

    def _encoder(
        self, manifest: Manifest | None, skipped: SkippedSamples, *, still: bool
    ) -> SampleTaskEncoder[Any, Any]:
        from cosmos_nemo.data.captioned_video import CaptionedVideoTaskEncoder
        from cosmos_nemo.data.latents import DiffusionTaskEncoder

        if manifest is None or manifest.kind != "video":
            return DiffusionTaskEncoder(manifest, skipped, text_length=self.text_length)
        window = self.window.still() if still else self.window
        return CaptionedVideoTaskEncoder(manifest, skipped, window=window, seed=self.seed, text_length=self.text_length)

    def open_dataset(self, field: str, path: str) -> Dataset:
        """See `EnergonDataModule`; video files are described as the latents that they become."""
        from cosmos_nemo.data.captioned_video import as_latents

        dataset = super().open_dataset(field, path)
        if dataset.manifest is None or dataset.manifest.kind != "video":
            return dataset
        if not self.tokenizer_path or self.window is None:
            raise UserError(
                f"{field} holds video files: set data.tokenizer_path to the video tokenizer and data.window to what is "
                "cut out of them, or prepare latents with `python -m data_prep shards --for v2w`."
            )
        tokenizer = self.tokenizer
        ref = EncoderRef(path=str(tokenizer.path.resolve()), sha256=file_sha256(*tokenizer.files))
        return replace(dataset, manifest=as_latents(dataset.manifest, self.window, tokenizer, ref))

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The video tokenizer that encodes video files.

        Raises:
            UserError: there is none at `tokenizer_path`, or one that makes token ids.
        """
        from cosmos_nemo.tokenizers.load import is_discrete, load_video_tokenizer

        assert self.tokenizer_path
        tokenizer = load_video_tokenizer(self.tokenizer_path)
        if is_discrete(tokenizer):
            raise UserError(f"data.tokenizer_path={self.tokenizer_path} makes token ids; latents are needed.")
        return tokenizer

    def finish_batch(self, batch: Any) -> Any:
        """Encode clips of video files."""
        from cosmos_nemo.data.captioned_video import CaptionedVideoBatch, encode_batch

        if not isinstance(batch, CaptionedVideoBatch):
            return batch
        # The device of this rank is known now, and was not when the tokenizer was looked at.
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else "cpu"
        return encode_batch(batch.to(device), self.tokenizer.to(device))


class DiTModule(FromPublished):
    """A DiT with a diffusion objective. The network runs in its parameter dtype, the objective in float32.

    Args:
        config: size and settings of the network.
        objective: noise levels, conditional frames, loss.
        seed: of the noise and of text dropout.
        dit_path: weights to start from: a published checkpoint (file or folder), or a run folder of this project.
            None starts from random weights. Not read when a run is resumed.
        use_ema: take the averaged weights of `dit_path`.
        ema_decay: see `FamilyModule`.
        ema_rate: see `FamilyModule`; 0.1 in the published examples.
        lora: see `FamilyModule`.
    """

    weights_field: ClassVar[str] = "dit_path"

    def __init__(
        self,
        config: DiTConfig,
        objective: Objective[Any],
        seed: int = 0,
        dit_path: str | None = None,
        use_ema: bool = False,
        ema_decay: float | None = None,
        ema_rate: float | None = None,
        lora: LoRA | None = None,
    ) -> None:
        super().__init__(seed=seed, ema_decay=ema_decay, ema_rate=ema_rate, lora=lora)
        self.config = config
        self.objective = objective
        self.dit_path = dit_path
        self.use_ema = use_ema

    def settings(self) -> dict[str, Any]:
        """See `FamilyModule`."""
        return {"objective": self.objective.to_json(), **super().settings()}

    def check_data(self, dataset: Dataset, data: EnergonDataModule) -> None:
        """Compares latent and text sizes with the network."""
        self.family.fit(self.config, needs_manifest(dataset), field=dataset.field)

    def recorded_data(self, dataset: Dataset, data: EnergonDataModule) -> dict[str, Any]:
        """See `FamilyModule`."""
        manifest = needs_manifest(dataset)
        return {
            "num_frames": manifest.num_frames,
            "height": manifest.height,
            "width": manifest.width,
            "fps": manifest.fps,
            "latent_shape": latent_shape(dataset),
            "text_width": manifest.text_width,
            "text_length": data.text_length,
            "video_tokenizer": manifest.video_tokenizer,
            "text_encoder": manifest.text_encoder,
        }

    def describe_data(self, dataset: Dataset, data: EnergonDataModule) -> str:
        """See `FamilyModule`."""
        manifest = needs_manifest(dataset)
        _, frames, height, width = manifest.latent_shape
        return f"{manifest.num_frames} frames {manifest.height}x{manifest.width} (latent {frames}x{height}x{width})"

    def notes(self, dataset: Dataset) -> list[str]:
        """What the objective has to say about the clips' length."""
        return [*super().notes(dataset), *self.objective.notes(latent_shape(dataset)[1])]

    def work(self, dataset: Dataset, data: EnergonDataModule, *, num_devices: int, bf16: bool) -> Work:
        """See `FamilyModule`; forward and backward, without recomputation."""
        sample = self.family.work(self.config, needs_manifest(dataset), text_length=data.text_length)
        return Work.of_batch(sample, data.global_batch_size, num_devices=num_devices, bf16=bf16)

    def next_commands(self, run: str) -> list[str]:
        """How to generate."""
        video = self.config.video_condition
        condition, output = ("--input IMAGE_OR_VIDEO ", "out.mp4") if video else ("", "out.png")
        return [f'cosmos-nemo generate --checkpoint {run} {condition}--prompt "..." --output {output}']

    def forward_step(self, batch: DiffusionBatch, step: int) -> Tensor:
        """The training loss of one micro batch; at `VALIDATION_STEP` no text is dropped."""
        x0 = batch.latent_B_C_T_H_W.float() * self.objective.sigma_data
        draws = self.objective.draw(
            seed=self.seed,
            step=step,
            sample_id_B=batch.sample_id_B.tolist(),
            latent_shape=tuple(x0.shape[1:]),
        ).to(x0.device)
        text = batch.crossattn_emb_B_L_E
        conditions = Conditions(
            crossattn_emb_B_L_E=text if step == VALIDATION_STEP else drop_text(text, draws.keep_text_B),
            condition_mask_B_1_T_H_W=draws.condition_mask_B_1_T_H_W,
            padding_mask_B_1_H_W=batch.padding_mask_B_1_H_W,
            fps_B=batch.fps_B,
        )
        net_out = conditions.bind(self.forward)(*self.objective.network_input(x0, draws))
        return self.objective.loss(x0, net_out.float(), draws, self.network).loss


def needs_manifest(dataset: Dataset) -> Manifest:
    """The manifest of a data set that cannot do without.

    Raises:
        UserError: it has none.
    """
    if dataset.manifest is None:
        raise UserError(f"{dataset.field}={dataset.path} has no manifest; make it with `python -m data_prep shards`.")
    return dataset.manifest


def latent_shape(dataset: Dataset) -> tuple[int, int, int, int]:
    """(C, T, H, W) of the samples of a data set that `DiTModule.check_data` has let through."""
    shape = needs_manifest(dataset).latent_shape
    assert shape is not None
    return shape
