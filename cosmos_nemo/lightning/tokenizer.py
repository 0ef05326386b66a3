"""Training of the Cosmos video tokenizers, CV and DV: to reconstruct clips of raw video."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cosmos_nemo.data.batch import VideoBatch
from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.module import VALIDATION_STEP, CosmosModule
from cosmos_nemo.lightning.reconstructions import Reconstructions
from cosmos_nemo.lightning.replicated import Replicated, config_without_a_transformer
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig, published_config
from cosmos_nemo.tokenizers.losses import metrics
from cosmos_nemo.tokenizers.losses.video_loss import VideoLoss, VideoLossConfig, load_video_loss


class TokenizerModule(CosmosModule):
    """A Cosmos video tokenizer. The network runs in its parameter dtype, the loss in float32.

    Args:
        model: published name of the tokenizer.
        network: other sizes of the same kind and compression; None takes those of the published name.
        jit_ckpt_pth: weights to start from: a folder with `autoencoder.jit` or `encoder.jit` and `decoder.jit`, the
            original code's `model.pt`, or a run folder of this project. None starts from random weights. Not read
            when a run is resumed.
        loss: weights of the loss terms; None takes those of NVIDIA's NeMo recipe.
        seed: see `CosmosModule`.
        use_ema: take the averaged weights of `jit_ckpt_pth`, if that is a run folder or a `.pt` file.
        ema_decay: see `CosmosModule`; 0.9999 in cosmos-predict1's training.
        ema_rate: see `CosmosModule`.
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
        self.config = config_without_a_transformer()
        self._video_loss: VideoLoss | None = None
        self._reconstructions = Reconstructions(self.sizes.vocab_size, i3d_path)

    @property
    def network_config(self) -> CosmosTokenizerConfig:
        """See `CosmosModule`; `config` is there for NeMo."""
        return self.sizes

    def settings(self) -> dict[str, Any]:
        """See `CosmosModule`."""
        return {"objective": asdict(self.loss)}

    def build_network(self, *, initialize: bool) -> nn.Module:
        """See `CosmosModule`; every rank holds all of it."""
        network: Any = super().build_network(initialize=initialize)
        network.use_activation_checkpointing(self.activation_checkpointing)
        return Replicated(self.config, network)

    def check_weights(self) -> None:
        """See `CosmosModule`."""
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

    def load_weights(self, network: Any) -> str:
        """See `CosmosModule`."""
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

    def check_data(self, dataset: Dataset) -> None:
        """Also look whether there is what validation needs."""
        super().check_data(dataset)
        if self.i3d_path and not Path(self.i3d_path).expanduser().is_file():
            raise UserError(f"model.i3d_path={self.i3d_path} does not exist; leave it out to go without rFVD.")

    def next_commands(self, run: str) -> list[str]:
        """Return how to export, and to look at reconstructions."""
        averaged = " --ema" if self.averaging else ""
        return [
            f"cosmos-nemo ckpt export {run} TOKENIZER_FOLDER{averaged}",
            "cosmos-nemo reconstruct --tokenizer TOKENIZER_FOLDER VIDEO.mp4 OUT.mp4",
        ]

    def forward_step(self, batch: VideoBatch, step: int) -> dict[str, Tensor]:
        """Return the loss of one micro batch and its terms; in validation also PSNR and SSIM."""
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
            self._reconstructions.note(batch, video, reconstruction, indices)
        return result

    @property
    def video_loss(self) -> VideoLoss:
        """The loss with its networks, which are loaded at the first call."""
        if self._video_loss is None:
            self._video_loss = load_video_loss(self.loss, device=next(self.parameters()).device)
        return self._video_loss

    def finish_validation(self, run_dir: Path, step: int) -> dict[str, Any]:
        """See `CosmosModule`: how the codebook is used, rFVD, and the picture of a clip and what became of it."""
        return self._reconstructions.finish(run_dir, step)


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
