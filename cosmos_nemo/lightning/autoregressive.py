"""The autoregressive family: next-token training on token ids, prepared beforehand or made from video as it is read."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cosmos_nemo.data.bare import bare_manifest
from cosmos_nemo.data.captioned_video import CaptionedVideoBatch, CaptionedVideoTaskEncoder
from cosmos_nemo.data.manifest import EncoderRef, Manifest
from cosmos_nemo.data.raw_video import ClipWindow, RawVideoTaskEncoder, VideoBatch
from cosmos_nemo.data.tokens import TokenBatch, TokenTaskEncoder
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from cosmos_nemo.lightning.data import EnergonDataModule
from cosmos_nemo.lightning.family import Dataset
from cosmos_nemo.lightning.published_weights import FromPublished
from cosmos_nemo.lightning.throughput import Work
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.loss import NextTokenObjective, next_token_labels, next_token_loss
from cosmos_nemo.models.autoregressive.sequence import check_token_ids, to_sequence
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.collectives import sum_forward
from cosmos_nemo.tokenizers.base import latent_frames

if TYPE_CHECKING:
    from cosmos_nemo.data.loader import SampleTaskEncoder, SkippedSamples
    from cosmos_nemo.tokenizers.base import DiscreteVideoTokenizer


class ARDataModule(EnergonDataModule):
    """Token ids or video files, with text for the networks that read it; see `EnergonDataModule`.

    Args:
        text_length: tokens every text embedding is padded to; None for networks without text.
        window: what is cut out of a video file; not used for token ids.
        **settings: those of `EnergonDataModule`.
    """

    def __init__(self, text_length: int | None = None, window: ClipWindow | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.text_length = text_length
        self.window = window or ClipWindow(num_frames=33, height=384, width=640, space="cover")

    def make_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """See `EnergonDataModule`."""
        return self._encoder(manifest, skipped, self.window)

    def make_val_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> SampleTaskEncoder[Any, Any]:
        """See `EnergonDataModule`; clips from the middle of the files."""
        return self._encoder(manifest, skipped, self.window.still())

    def _encoder(
        self, manifest: Manifest | None, skipped: SkippedSamples, window: ClipWindow
    ) -> SampleTaskEncoder[Any, Any]:
        if is_video(manifest) and self.text_length is not None:
            return CaptionedVideoTaskEncoder(
                manifest, skipped, window=window, seed=self.seed, text_length=self.text_length
            )
        if is_video(manifest):
            return RawVideoTaskEncoder(manifest, skipped, window=window, seed=self.seed)
        return TokenTaskEncoder(manifest, skipped, text_length=self.text_length)


class ARModule(FromPublished):
    """An autoregressive network with the next-token objective. The loss is float32 whatever the network's dtype.

    Args:
        config: size and settings of the network.
        objective: which tokens are learnt.
        seed: of the run; nothing in the step itself is random.
        ar_path: weights to start from: a published checkpoint (`model.pt`), or a run folder of this project. None
            starts from random weights. Not read when a run is resumed.
        use_ema: take the averaged weights of `ar_path`.
        tokenizer_path: a DV tokenizer, for data sets of video files; not used for token ids.
        lora: see `FamilyModule`.
        ema_decay: see `FamilyModule`.
        ema_rate: see `FamilyModule`.
    """

    weights_field: ClassVar[str] = "ar_path"

    def __init__(
        self,
        config: ARConfig,
        objective: NextTokenObjective,
        seed: int = 0,
        ar_path: str | None = None,
        use_ema: bool = False,
        tokenizer_path: str | None = None,
        lora: LoRA | None = None,
        ema_decay: float | None = None,
        ema_rate: float | None = None,
    ) -> None:
        super().__init__(seed=seed, ema_decay=ema_decay, ema_rate=ema_rate, lora=lora)
        self.config = config
        self.objective = objective
        self.ar_path = ar_path
        self.use_ema = use_ema
        self.tokenizer_path = tokenizer_path
        # Kept out of the module tree: it is not trained and not saved.
        self.__dict__["_tokenizer"] = None

    def settings(self) -> dict[str, Any]:
        """See `FamilyModule`."""
        return {"objective": asdict(self.objective), **super().settings()}

    @property
    def tokenizer(self) -> DiscreteVideoTokenizer:
        """The video tokenizer, loaded when it is first needed.

        Raises:
            UserError: `tokenizer_path` is not set, or is no DV tokenizer of this network's vocabulary.
        """
        if self.__dict__["_tokenizer"] is None:
            self.__dict__["_tokenizer"] = load_discrete(self.tokenizer_path, self.config)
        return self.__dict__["_tokenizer"]

    def check_data(self, dataset: Dataset, data: EnergonDataModule) -> None:
        """Compares vocabulary, text and length with the network."""
        assert isinstance(data, ARDataModule)
        field, manifest = dataset.field, self._as_tokens(dataset, data)
        self.family.fit(self.config, manifest, field=field)
        if self.config.crossattn_emb_channels and data.text_length is None:
            raise UserError("data.text_length is not set, and this network reads text; 512 in the published models.")
        assert manifest.token_shape is not None
        frames = manifest.token_shape[0]
        if frames <= self.objective.num_condition_latents_t:
            raise UserError(
                f"{field} has clips of {frames} latent frames, of which num_condition_latents_t="
                f"{self.objective.num_condition_latents_t} are given: nothing is left to predict. Prepare longer clips "
                "(33 frames in the published models), or set model.objective.num_condition_latents_t lower."
            )

    def _as_tokens(self, dataset: Dataset, data: ARDataModule) -> Manifest:
        """What the data set looks like to the network: video files as the tokens that they become."""
        manifest = dataset.manifest or bare_manifest()
        if not is_video(dataset.manifest):
            return manifest
        return replace(manifest, token_shape=token_shape(dataset, data, self), vocab_size=self.tokenizer.vocab_size)

    def recorded_data(self, dataset: Dataset, data: EnergonDataModule) -> dict[str, Any]:
        """See `FamilyModule`."""
        assert isinstance(data, ARDataModule)
        manifest, shape = dataset.manifest, token_shape(dataset, data, self)
        if is_video(manifest):
            window = data.window
            return {
                "num_frames": window.num_frames,
                "height": window.height,
                "width": window.width,
                "fps": None,
                "token_shape": shape,
                "text_width": manifest.text_width if manifest else None,
                "text_length": data.text_length,
                "video_tokenizer": EncoderRef(path=str(self.tokenizer.path), sha256=file_sha256(*self.tokenizer.files)),
                "text_encoder": manifest.text_encoder if manifest else None,
            }
        assert manifest is not None
        return {
            "num_frames": manifest.num_frames,
            "height": manifest.height,
            "width": manifest.width,
            "fps": manifest.fps,
            "token_shape": shape,
            "text_width": manifest.text_width,
            "text_length": data.text_length,
            "video_tokenizer": manifest.video_tokenizer,
            "text_encoder": manifest.text_encoder,
        }

    def describe_data(self, dataset: Dataset, data: EnergonDataModule) -> str:
        """See `FamilyModule`."""
        described = self.recorded_data(dataset, data)
        frames, height, width = described["token_shape"]
        made = ", made of video files as they are read" if is_video(dataset.manifest) else ""
        size = f"{described['num_frames']} frames {described['height']}x{described['width']}"
        return f"{size} (tokens {frames}x{height}x{width}{made})"

    def work(self, dataset: Dataset, data: EnergonDataModule, *, num_devices: int, bf16: bool) -> Work:
        """See `FamilyModule`; forward and backward, without recomputation."""
        assert isinstance(data, ARDataModule)
        sample = self.family.work(self.config, self._as_tokens(dataset, data), text_length=data.text_length)
        return Work.of_batch(sample, data.global_batch_size, num_devices=num_devices, bf16=bf16)

    def next_commands(self, run: str) -> list[str]:
        """How to generate and to export."""
        prompt = '--prompt "..." ' if self.config.crossattn_emb_channels else ""
        return [
            f"cosmos-nemo generate --checkpoint {run} --input VIDEO {prompt}--output out.mp4",
            f"cosmos-nemo ckpt export {run} model.pt",
        ]

    def forward_step(self, batch: TokenBatch | VideoBatch, step: int) -> Tensor | dict[str, Tensor]:
        """The loss of one micro batch, with its two parts."""
        tokens_B_T_H_W = self._tokens(batch)
        latent_shape = tuple(tokens_B_T_H_W.shape[1:])
        sequence = to_sequence(tokens_B_T_H_W, self.config)
        inputs: dict[str, Any] = {"latent_shape": latent_shape}
        if self.config.crossattn_emb_channels:
            assert isinstance(batch, TokenBatch | CaptionedVideoBatch)
            inputs |= {"context_B_L_E": batch.crossattn_emb_B_L_E, "context_mask_B_L": batch.text_mask_B_L}
        out = self.forward(sequence, **inputs)
        network = self.network
        if not network.post_process:
            return out
        loss = next_token_loss(
            out,
            next_token_labels(sequence, latent_shape=latent_shape, config=self.config, objective=self.objective),
            objective=self.objective,
            token_range=network.token_range(sequence.shape[1]),
            tp_group=network.groups.tp,
        )
        # Each context-parallel rank has the part of its tokens; the sum is what is reported, and has their gradients.
        terms = {"loss": loss.total, "cross_entropy": loss.cross_entropy.detach(), "z_loss": loss.z_loss.detach()}
        return {name: sum_forward(term, network.groups.cp) for name, term in terms.items()}

    @torch.no_grad()
    def _tokens(self, batch: TokenBatch | VideoBatch) -> Tensor:
        if isinstance(batch, TokenBatch):
            return batch.tokens_B_T_H_W
        tokens = self.tokenizer.encode(batch.pixels())
        check_token_ids(tokens, self.config, where=f"samples {', '.join(batch.keys)}")
        return tokens.to(batch.video_B_3_T_H_W.device)


def is_video(manifest: Manifest | None) -> bool:
    """Whether a data set holds video files; a bare folder of tars does."""
    return manifest is None or manifest.kind == "video"


def token_shape(dataset: Dataset, data: ARDataModule, module: ARModule) -> tuple[int, int, int]:
    """(T, H, W) of the samples' token ids.

    Raises:
        UserError: a clip window that the video tokenizer does not take.
    """
    if not is_video(dataset.manifest):
        assert dataset.manifest is not None and dataset.manifest.token_shape is not None
        return dataset.manifest.token_shape
    window, tokenizer = data.window, module.tokenizer
    side = tokenizer.spatial_compression
    if window.height % side or window.width % side:
        raise UserError(
            f"data.window of {window.height}x{window.width} pixels: both must be multiples of {side}, the video "
            "tokenizer's compression."
        )
    return latent_frames(window.num_frames, tokenizer.temporal_compression), window.height // side, window.width // side


def load_discrete(path: str | None, config: ARConfig) -> DiscreteVideoTokenizer:
    """A DV tokenizer for a network.

    Raises:
        UserError: no path, or a tokenizer that makes latents, or one with another vocabulary.
    """
    from cosmos_nemo.tokenizers.load import load_discrete_tokenizer

    if not path:
        raise UserError(
            "the data set holds video files: set model.tokenizer_path to a DV8x16x16 tokenizer, or prepare token ids "
            "with `python -m data_prep shards --for ar`."
        )
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else "cpu"
    return load_discrete_tokenizer(path, vocab_size=config.vocab_size, field="model.tokenizer_path", device=device)
