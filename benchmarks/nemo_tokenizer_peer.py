"""NeMo's network of the Cosmos tokenizers, with the weights of ours: what NVIDIA's NeMo post-training uses."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path

from torch import nn

from cosmos_nemo.golden.cosmos_tokenizer.build import FIXED
from cosmos_nemo.tokenizers.cosmos.network import ContinuousNetwork, DiscreteNetwork
from cosmos_nemo.tokenizers.cosmos.weights import UNUSED


def build_peer(ours: ContinuousNetwork | DiscreteNetwork) -> nn.Module:
    """The same network in NeMo's code."""
    networks = _networks()
    config = ours.config
    kwargs = {
        **FIXED,
        **{name: getattr(config, name) for name in ("channels", "num_res_blocks", "patch_size", "z_channels")},
        **{name: getattr(config, name) for name in ("temporal_compression", "spatial_compression")},
        "channels_mult": list(config.channels_mult),
        "attn_resolutions": [32],
        "resolution": 1024,
    }
    if config.discrete:
        extra = {"embedding_dim": config.embedding_dim, "levels": list(config.levels)}
        peer = networks.TokenizerModels.CausalDV.value(**kwargs, **extra)
    else:
        extra = {"latent_channels": config.latent_channels}
        peer = networks.TokenizerModels.CausalCV.value(**kwargs, **extra)
    missing, unexpected = peer.load_state_dict(ours.state_dict(), strict=False)
    strange = [*unexpected, *(name for name in missing if not UNUSED.fullmatch(name))]
    if strange:
        raise RuntimeError(f"NeMo's network has other weights: {strange[:5]}")
    return peer


def _networks() -> types.ModuleType:
    """NeMo's module without the packages around it, which take half a minute to import."""
    name = "nemo.collections.common.video_tokenizers.networks"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.find_spec("nemo")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("this benchmark compares with NeMo's tokenizer networks; install nemo_toolkit")
    folder = Path(next(iter(found.submodule_search_locations)))
    for parent in ("nemo", "nemo.collections", "nemo.collections.common"):
        if parent not in sys.modules:
            package = types.ModuleType(parent)
            package.__path__ = [str(folder.joinpath(*parent.split(".")[1:]))]
            sys.modules[parent] = package
    return importlib.import_module(name)
