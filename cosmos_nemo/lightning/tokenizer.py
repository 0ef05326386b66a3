"""The tokenizer family: the Cosmos CV and DV networks, trained to reconstruct clips of raw video."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from megatron.core import parallel_state
from megatron.core.enums import ModelType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.utils import sharded_state_dict_default
from torch import Tensor, nn

from cosmos_nemo.data.bare import bare_manifest
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.data import EnergonDataModule
from cosmos_nemo.lightning.family import VALIDATION_STEP, Dataset, FamilyModule
from cosmos_nemo.lightning.throughput import Work
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig, published_config
from cosmos_nemo.tokenizers.losses import metrics
from cosmos_nemo.tokenizers.losses.video_loss import VideoLoss, VideoLossConfig, load_video_loss

if TYPE_CHECKING:
    from cosmos_nemo.data.loader import SkippedSamples
    from cosmos_nemo.data.manifest import Manifest
    from cosmos_nemo.data.raw_video import ClipWindow, RawVideoTaskEncoder, VideoBatch

PICTURES_DIR = "validation"
"""Below the run folder: what validation draws."""


class VideoDataModule(EnergonDataModule):
    """Clips out of video files; see `EnergonDataModule`. Validation takes the middle of every file.

    Args:
        window: what is cut out of a file.
        val_window: the same for validation, for which nothing in it is random; None takes the sizes of `window`.
        **settings: those of `EnergonDataModule`; its seed is also that of the cuts.
    """

    def __init__(self, window: ClipWindow, val_window: ClipWindow | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.window, self.val_window = window, val_window

    def make_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> RawVideoTaskEncoder:
        """See `EnergonDataModule`."""
        from cosmos_nemo.data.raw_video import RawVideoTaskEncoder

        return RawVideoTaskEncoder(manifest, skipped, window=self.window, seed=self.seed)

    def make_val_encoder(self, manifest: Manifest | None, skipped: SkippedSamples) -> RawVideoTaskEncoder:
        """See `EnergonDataModule`."""
        from cosmos_nemo.data.raw_video import RawVideoTaskEncoder

        window = (self.val_window or self.window).still()
        return RawVideoTaskEncoder(manifest, skipped, window=window, seed=self.seed)


class Replicated(MegatronModule):
    """A plain network as Megatron's wrappers want it: every rank holds all of it."""

    def __init__(self, config: TransformerConfig, network: nn.Module) -> None:
        super().__init__(config)
        self.module = network
        # What Megatron's schedules ask for. They number micro batches in the layers of a transformer's `decoder`, and
        # would take the network's own decoder for one.
        self.model_type = ModelType.encoder_or_decoder
        self.decoder = SimpleNamespace(layers=())

    def forward(self, video_B_3_T_H_W: Tensor) -> Any:
        """The network's output."""
        return self.module(video_B_3_T_H_W)

    def set_input_tensor(self, input_tensor: Any) -> None:
        """Takes what an earlier pipeline stage gives: there is none."""

    def sharded_state_dict(self, prefix: str = "", *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The network's, without a name for this wrapper."""
        shards: dict[str, Any] = sharded_state_dict_default(self.module, prefix, *args, **kwargs)
        return shards


class TokenizerModule(FamilyModule):
    """A Cosmos video tokenizer. The network runs in its parameter dtype, the loss in float32.

    Args:
        model: published name of the tokenizer.
        network: other sizes of the same kind and compression; None takes those of the published name.
        jit_ckpt_pth: weights to start from: a folder with `autoencoder.jit` or `encoder.jit` and `decoder.jit`, the
            original code's `model.pt`, or a run folder of this project. None starts from random weights. Not read
            when a run is resumed.
        loss: weights of the loss terms; None takes those of NVIDIA's NeMo recipe.
        seed: of random weights.
        use_ema: take the averaged weights of `jit_ckpt_pth`, if that is a run folder or a `.pt` file.
        ema_decay: see `FamilyModule`; 0.9999 in cosmos-predict1's training.
        ema_rate: see `FamilyModule`.
        activation_checkpointing: keep only the inputs of residual blocks for backward.
        i3d_path: feature network of rFVD; see `losses.metrics.load_i3d`. None: validation does not compute it.
    """

    weights_field: ClassVar[str] = "jit_ckpt_pth"

    def __init__(
        self,
        model: str = "Cosmos-1.0-Tokenizer-CV8x8x8",
        network: CosmosTokenizerConfig | None = None,
        jit_ckpt_pth: str | None = None,
        loss: VideoLossConfig | None = None,
        seed: int = 0,
        use_ema: bool = False,
        ema_decay: float | None = None,
        ema_rate: float | None = None,
        activation_checkpointing: bool = False,
        i3d_path: str | None = None,
    ) -> None:
        super().__init__(seed=seed, ema_decay=ema_decay, ema_rate=ema_rate)
        self.model = model
        self.sizes = _sizes(model, network)
        self.jit_ckpt_pth = jit_ckpt_pth
        self.loss = loss or VideoLossConfig()
        self.use_ema = use_ema
        self.activation_checkpointing = activation_checkpointing
        self.i3d_path = i3d_path
        # What NeMo and Megatron read dtypes and parallel sizes from; there is no transformer.
        self.config = TransformerConfig(
            num_layers=1, hidden_size=1, num_attention_heads=1, gradient_accumulation_fusion=False
        )
        self._video_loss: VideoLoss | None = None
        self._i3d: Any = None
        self._seen = _Seen()

    @property
    def network_config(self) -> CosmosTokenizerConfig:
        """See `FamilyModule`; `config` is there for NeMo."""
        return self.sizes

    def settings(self) -> dict[str, Any]:
        """See `FamilyModule`."""
        return {"objective": asdict(self.loss)}

    def build_network(self, *, initialize: bool) -> nn.Module:
        """The network; see `tokenizers.cosmos.initialization` for its random weights."""
        network = self.family.build(self.sizes, seed=self.seed if initialize else None)
        network.use_activation_checkpointing(self.activation_checkpointing)
        return Replicated(self.config, network)

    def check_weights(self) -> None:
        """See `FamilyModule`."""
        from cosmos_nemo.checkpoints import megatron
        from cosmos_nemo.runs import layout

        path = self.jit_ckpt_pth
        if not path:
            return
        if layout.is_training_checkpoint(path):
            different = self.architecture.differences(megatron.run_architecture(layout.find_checkpoint(path)))
            if different:
                raise UserError(f"model.jit_ckpt_pth={path} is of another tokenizer: {different}.")
        else:
            self._published_state()

    def load_weights(self, network: nn.Module) -> str:
        """See `FamilyModule`."""
        from cosmos_nemo.checkpoints import megatron
        from cosmos_nemo.runs import layout

        assert self.jit_ckpt_pth
        if layout.is_training_checkpoint(self.jit_ckpt_pth):
            info = megatron.load_training_checkpoint(network.module, self.jit_ckpt_pth, ema=self.use_ema)
            return f"{info.path} (step {info.step})"
        state = self._published_state()
        network.module.load_state_dict(state)
        return f"{self.jit_ckpt_pth}: {len(state)} tensors"

    def _published_state(self) -> dict[str, Tensor]:
        from cosmos_nemo.tokenizers.cosmos.weights import load_network

        try:
            _, loaded = load_network(str(self.jit_ckpt_pth), expected=self.sizes, ema=self.use_ema, dtype=torch.float32)
        except UserError as error:
            raise UserError(f"model.jit_ckpt_pth: {error}; model.model is {self.model}.") from error
        return loaded.state_dict()

    def check_data(self, dataset: Dataset, data: EnergonDataModule) -> None:
        """Compares the clips with the network and, where the manifest knows them, with the files."""
        if self.i3d_path and not Path(self.i3d_path).expanduser().is_file():
            raise UserError(f"model.i3d_path={self.i3d_path} does not exist; leave it out to go without rFVD.")
        manifest = dataset.manifest or bare_manifest()
        self.family.fit(self.sizes, _cut(manifest, None), field=dataset.field)
        for name, window in (("data.window", data.window), ("data.val_window", data.val_window)):
            if window is not None:
                self._check_window(name, window, dataset)

    def _check_window(self, name: str, window: ClipWindow, dataset: Dataset) -> None:
        """Compares a cut with the network and, where the manifest knows them, with the files."""
        manifest = dataset.manifest or bare_manifest()
        self.family.fit(self.sizes, _cut(manifest, window), field=name)
        if manifest.num_frames is not None and manifest.num_frames < window.span:
            raise UserError(
                f"{dataset.field} has clips of {manifest.num_frames} frames, and {name} takes {window.span}; "
                f"lower {name}.num_frames, or prepare longer clips."
            )
        size = (manifest.height, manifest.width)
        cuts = window.space != "cover" and window.resize_short_side is None
        if cuts and None not in size and (size[0] < window.height or size[1] < window.width):
            raise UserError(
                f"{dataset.field} has frames of {size[0]}x{size[1]}, and {name} cuts out {window.height}x"
                f"{window.width}; lower {name}.height and width, or set {name}.space=cover."
            )

    def recorded_data(self, dataset: Dataset, data: EnergonDataModule) -> dict[str, Any]:
        """See `FamilyModule`."""
        window = asdict(data.window)
        fps = dataset.manifest.fps if dataset.manifest is not None else None
        return {name: window[name] for name in ("num_frames", "height", "width")} | {"fps": fps, "window": window}

    def describe_data(self, dataset: Dataset, data: EnergonDataModule) -> str:
        """See `FamilyModule`."""
        window: ClipWindow = data.window
        frames, height, width = self.sizes.latent_shape(window.num_frames, window.height, window.width)
        return (
            f"video files, cut to {window.num_frames} frames {window.height}x{window.width} "
            f"(latent {frames}x{height}x{width})"
        )

    def work(self, dataset: Dataset, data: EnergonDataModule, *, num_devices: int, bf16: bool) -> Work:
        """See `FamilyModule`; counted by torch on a network without memory."""
        manifest = _cut(dataset.manifest or bare_manifest(), data.window)
        sample = self.family.work(self.sizes, manifest)
        return Work.of_batch(sample, data.global_batch_size, num_devices=num_devices, bf16=bf16)

    def next_commands(self, run: str) -> list[str]:
        """How to export, and to look at reconstructions."""
        averaged = " --ema" if self.ema_beta() is not None else ""
        return [
            f"cosmos-nemo ckpt export {run} TOKENIZER_FOLDER{averaged}",
            "cosmos-nemo reconstruct --tokenizer TOKENIZER_FOLDER VIDEO.mp4 OUT.mp4",
        ]

    def forward_step(self, batch: VideoBatch, step: int) -> dict[str, Tensor]:
        """The loss of one micro batch and its terms; in validation also PSNR and SSIM."""
        video = batch.pixels()
        output = self.forward(video)
        reconstruction, indices = output[0].float(), output[2]
        iteration = self.trainer.global_step  # the schedules of the loss go on in validation
        terms = self.video_loss(video, reconstruction, iteration=iteration)
        result = {"loss": torch.stack(list(terms.values())).sum()} | terms
        if step == VALIDATION_STEP:
            with torch.no_grad():
                result["psnr"] = metrics.psnr(video, reconstruction).mean()
                if min(video.shape[-2:]) >= metrics.SSIM_MINIMUM:
                    result["ssim"] = metrics.ssim(video, reconstruction).mean()
            self._seen.note(batch, reconstruction, indices, self.sizes.vocab_size)
            if self.i3d_path:
                if self._seen.distance is None:
                    self._i3d = self._i3d or metrics.load_i3d(self.i3d_path, device=video.device)
                    self._seen.distance = metrics.FrechetVideoDistance(self._i3d)
                self._seen.distance.update(video, reconstruction)
        return result

    @property
    def video_loss(self) -> VideoLoss:
        """The loss with its networks, which are loaded at the first call."""
        if self._video_loss is None:
            self._video_loss = load_video_loss(self.loss, device=next(self.parameters()).device)
        return self._video_loss

    def finish_validation(self, run_dir: Path, step: int) -> dict[str, Any]:
        """How the codebook is used, rFVD, and a picture of the first clip of rank 0 and what became of it."""
        seen, self._seen = self._seen, _Seen()
        row: dict[str, Any] = {}
        if seen.counts is not None:
            torch.distributed.all_reduce(seen.counts, group=parallel_state.get_data_parallel_group())
            use = metrics.codebook_use(seen.counts)
            row = {"val_code_entropy": use.entropy, "val_code_perplexity": use.perplexity, "val_dead_codes": use.dead}
        if seen.distance is not None:
            group = parallel_state.get_data_parallel_group()
            parts: list[Any] = [None] * torch.distributed.get_world_size(group)
            torch.distributed.all_gather_object(parts, seen.distance.features(), group=group)
            clips, reconstructions = (torch.cat(side) for side in zip(*parts, strict=True))
            if len(clips) > 1:  # one clip has no covariance
                row["val_rfvd"] = metrics.frechet_distance(clips, reconstructions)
        if torch.distributed.get_rank() == 0 and seen.clip is not None:
            name = f"{PICTURES_DIR}/step_{step:09d}.png"
            seen.draw(run_dir / name)
            row["val_picture"] = name
        return row


def _sizes(model: str, network: CosmosTokenizerConfig | None) -> CosmosTokenizerConfig:
    try:
        published = published_config(model)
    except UserError as error:
        raise UserError(f"model.model: {error}") from error
    if network is not None and network.name != published.name:
        raise UserError(
            f"model.model={model} is a {published.name} tokenizer, and model.network a {network.name} one; choose the "
            "recipe of the other kind."
        )
    return network or published


def _cut(manifest: Manifest, window: ClipWindow | None) -> Manifest:
    """What a data set of video files looks like to the network: clips of the window; None where it is not known yet."""
    sizes = {name: getattr(window, name, None) for name in ("num_frames", "height", "width")}
    return replace(manifest, **sizes)


class _Seen:
    """What a validation has seen so far."""

    def __init__(self) -> None:
        self.counts: Tensor | None = None  # of tokens, int64 [vocab_size]
        self.distance: metrics.FrechetVideoDistance | None = None
        self.clip: tuple[Tensor, Tensor, float] | None = None  # the first one, its reconstruction, frames per second

    def note(self, batch: VideoBatch, reconstruction_B_3_T_H_W: Tensor, indices: Tensor | None, vocab: int) -> None:
        """Count tokens, and keep the first clip."""
        if indices is not None:
            counts = metrics.count_tokens(indices, vocab)
            self.counts = counts if self.counts is None else self.counts + counts
        if self.clip is None:
            pair = (batch.video_B_3_T_H_W[0].cpu(), reconstruction_B_3_T_H_W[:1].detach().cpu())
            self.clip = (*pair, float(batch.fps_B[0]) or 1.0)

    def draw(self, path: Path) -> None:
        """Draw the clip above its reconstruction."""
        from cosmos_nemo.media.strip import StripRow, write_strip

        assert self.clip is not None
        video_3_T_H_W, reconstruction, fps = self.clip
        rows = [
            StripRow(label="original", frames_T_3_H_W=video_3_T_H_W.transpose(0, 1)),
            StripRow(label="reconstruction", frames_T_3_H_W=metrics.to_uint8(reconstruction)),
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_strip(path, rows, num_frames=video_3_T_H_W.shape[1], fps=fps, columns=6)
