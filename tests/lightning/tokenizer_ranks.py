"""What each rank runs in the tests of tokenizer training: real NeMo, real Energon, small videos, a narrow network."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from cosmos_nemo.platform.install import install
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig
from tests.data.shards import write_dataset
from tests.data.videos import noise, write
from tests.lightning.ranks import refused, run, terminated

SIZES = {"channels": 8, "channels_mult": (1, 1, 1), "num_res_blocks": 1, "z_channels": 8}
CV = CosmosTokenizerConfig(latent_channels=4, **SIZES)
DV = CosmosTokenizerConfig(discrete=True, spatial_compression=16, levels=(4, 3), **SIZES)


def write_videos(folder: Path) -> Path:
    """A dataset of eight small videos for training and two for validation."""
    from cosmos_nemo.data.schema import VideoSample

    folder.mkdir()

    def sample(key: str, seed: int) -> VideoSample:
        frames = noise(10 + seed, (32, 48), seed=seed)
        return VideoSample(key=key, media=write(folder / f"{key}.mp4", frames).read_bytes())

    shards = {f"train-{s}.tar": [sample(f"train{i}", i) for i in range(s, 8, 2)] for s in range(2)}
    shards["val-0.tar"] = [sample(f"val{i}", 10 + i) for i in range(2)]
    absent = dict.fromkeys(("fps", "latent_shape", "latent_dtype", "text_width", "text_length", "video_tokenizer"))
    kind = {"task": "tokenizer", "kind": "video", "num_frames": 10, "height": 32, "width": 48, "text_encoder": None}
    return write_dataset(folder / "shards", shards, **kind, **absent)


def fit(shards: str, root: str, name: str, sizes: CosmosTokenizerConfig = DV, **changes: Any) -> int | None:
    """Trains run `name`; see `ranks.run`."""

    def parts() -> tuple[Any, Any]:
        from cosmos_nemo.data.window import ClipWindow
        from cosmos_nemo.lightning.data import EnergonDataModule
        from cosmos_nemo.lightning.tokenizer import TokenizerModule

        window = ClipWindow(**({"num_frames": 9, "height": 32, "width": 32} | changes.get("window", {})))
        val_window = ClipWindow(**changes["val_window"]) if "val_window" in changes else None
        data = {"micro_batch_size": 1, "global_batch_size": 2, "num_workers": 0} | changes.get("data", {})
        settings = {"ema_decay": 0.9, "model": f"Cosmos-1.0-Tokenizer-{sizes.name}"} | changes.get("model", {})
        model = TokenizerModule(network=sizes, seed=7, **settings)
        return model, EnergonDataModule(window=window, val_window=val_window, path=shards, **data)

    return run(parts, root, name, **({"max_steps": 4} | changes))


class MeanColours(torch.nn.Module):
    """In the place of I3D, and called as it is."""

    def forward(self, video: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        """[B, 3, T, H, W] -> [B, 3]."""
        return video.mean(dim=[2, 3, 4])


def one_process(shards: str, latents: str, root: str) -> dict[str, Any]:
    """Everything that needs one process."""
    install(nemo=True)
    folder = Path(root)
    seen: dict[str, Any] = {}
    turned = {"flip_probability": 0.5, "reverse_probability": 0.5}
    whole = {"num_frames": 9, "height": 32, "width": 48}
    fit(shards, root, "straight", window=turned, val_window=whole)
    seen["code_after_sigterm"] = fit(shards, root, "cut", window=turned, val_window=whole, callbacks=terminated(step=3))
    fit(shards, root, "cut", window=turned, val_window=whole)
    torch.jit.script(MeanColours()).save(str(folder / "i3d.pt"))
    features = {"i3d_path": str(folder / "i3d.pt")}
    fit(shards, root, "workers", CV, data={"num_workers": 2}, max_steps=-1, max_epochs=1, model=features)
    fit(shards, root, "bf16", CV, data={"num_workers": 2}, bf16=True, max_steps=2)
    fit(shards, root, "recomputed", CV, data={"num_workers": 2}, model={"activation_checkpointing": True}, max_steps=2)

    for name, sizes in (("cv", CV), ("dv", DV)):
        _export(folder / name, sizes)
    seen["same_outputs"] = _same_outputs(folder)
    from_cv, no = {"model": {"jit_ckpt_pth": str(folder / "cv")}}, partial(refused, start=fit)
    fit(shards, root, "from_jit", CV, max_steps=1, **from_cv)
    seen["cv_for_dv"] = no(shards, root, "other", DV, **from_cv)
    seen["other_task"] = no(latents, root, "other")
    seen["names"] = _refused_names()
    seen["frames"] = no(shards, root, "other", window={"num_frames": 8})
    seen["size"] = no(shards, root, "other", window={"height": 24})
    seen["long"] = no(shards, root, "other", window={"num_frames": 17})
    seen["large"] = no(shards, root, "other", window={"height": 64})
    seen["val_large"] = no(shards, root, "other", val_window=whole | {"height": 64})
    seen["no_i3d"] = no(shards, root, "other", model={"i3d_path": "/nowhere/i3d.pt"})
    seen["left_nothing"] = not (folder / "p/g/other").exists()
    seen["average_loads"] = _loads_without_nemo(root, folder / "p/g/straight")
    return seen


def _refused_names() -> str:
    from cosmos_nemo.errors import UserError
    from cosmos_nemo.lightning.tokenizer import TokenizerModule

    try:
        TokenizerModule("Cosmos-1.0-Tokenizer-DV8x16x16", CV)
    except UserError as error:
        return str(error)
    raise AssertionError("was accepted")


def _export(folder: Path, sizes: CosmosTokenizerConfig) -> None:
    from cosmos_nemo.tokenizers.cosmos.jit import export_jit
    from cosmos_nemo.tokenizers.cosmos.network import build_network

    torch.manual_seed(3)
    export_jit(build_network(sizes), sizes, folder)


def _same_outputs(folder: Path) -> bool:
    """JIT -> module without a step -> JIT."""
    from cosmos_nemo.lightning.tokenizer import TokenizerModule
    from cosmos_nemo.tokenizers.cosmos.jit import export_jit

    clip = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    same = []
    for name, sizes in (("cv", CV), ("dv", DV)):
        module = TokenizerModule(f"Cosmos-1.0-Tokenizer-{sizes.name}", sizes, str(folder / name))
        network = module.build_network(initialize=False)
        module.load_weights(network)
        export_jit(network.module, sizes, folder / f"{name}_again")
        files = [torch.jit.load(str(folder / f / "autoencoder.jit")) for f in (name, f"{name}_again")]
        same.append(torch.equal(files[0](clip)[0], files[1](clip)[0]))
    return all(same)


def _loads_without_nemo(root: str, folder: Path) -> bool:
    from megatron.core import parallel_state

    from cosmos_nemo.checkpoints import megatron
    from cosmos_nemo.tokenizers.cosmos.network import build_network
    from tests.lightning.ranks import forget_groups, new_world

    new_world(root)
    torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel()
    networks = [build_network(DV) for _ in range(2)]
    for network, ema in zip(networks, (False, True), strict=True):
        megatron.load_training_checkpoint(network, folder, ema=ema)
    forget_groups()
    plain, average = (network.quant_conv.conv3d.weight for network in networks)
    return not torch.equal(plain, average) and bool((plain - average).abs().max() < 0.1)


def two_processes(shards: str, root: str) -> None:
    """What one process did as `workers`, on two."""
    install(nemo=True)
    fit(shards, root, "data2", CV, data={"num_workers": 1})
