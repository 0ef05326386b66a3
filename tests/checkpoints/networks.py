"""Small networks and weights for the tests of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.rows import Naming

TINY: dict[str, Any] = {
    "family": "predict2",
    "num_layers": 2,
    "hidden_size": 96,
    "num_attention_heads": 4,
    "kv_channels": 24,
    "ffn_hidden_size": 384,
    "in_channels": 16,
    "out_channels": 16,
    "video_condition": True,
    "concat_padding_mask": True,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "crossattn_emb_channels": 40,
    "adaln_lora_dim": 8,
}
"""A network of no named size, whose dimensions all differ."""

TINY_NAMED: dict[str, Any] = {
    **TINY,
    "num_layers": 4,
    "hidden_size": 128,
    "kv_channels": 32,
    "ffn_hidden_size": 512,
    "crossattn_emb_channels": 64,
    "adaln_lora_dim": 32,
}
"""The sizes of the recipe cosmos_v2w_tiny."""

AR: dict[str, Any] = {
    "family": "autoregressive",
    "num_layers": 3,
    "hidden_size": 40,
    "num_attention_heads": 8,
    "num_query_groups": 4,
    "kv_channels": 6,
    "ffn_hidden_size": 56,
    "vocab_size": 160,
    "input_vocab_size": 160,
    "crossattn_emb_channels": 0,
    "insert_cross_attn_every_k_layers": 1,
}
"""An autoregressive network whose dimensions all differ; heads are not hidden size over their number, as in the 12B."""

AR_TEXT: dict[str, Any] = {
    **AR,
    "input_vocab_size": 168,
    "crossattn_emb_channels": 20,
    "num_prefix_tokens": 1,
    "use_abs_pos_emb": True,
}
"""The same with text in every layer, as the 5B and 13B."""

AR_TEXT_SPACED: dict[str, Any] = {**AR_TEXT, "insert_cross_attn_every_k_layers": 2}
"""The same with text in every second layer."""

BUFFERS: dict[str, Tensor] = {
    "net.accum_video_sample_counter": torch.tensor(3),
    "net.accum_image_sample_counter": torch.tensor(4),
    "net.accum_iteration": torch.tensor(5),
    "net.accum_train_in_hours": torch.tensor(0.5),
    "net.pos_embedder.seq": torch.arange(8.0),
    "net.pos_embedder.dim_spatial_range": torch.arange(4.0),
    "net.pos_embedder.dim_temporal_range": torch.arange(4.0),
    "net.blocks.0.self_attn.q_norm._extra_state": torch.zeros(1),
    "net.t_embedding_norm._extra_state": torch.zeros(1),
}
"""What published files hold besides weights."""


def architecture_of(fields: dict[str, Any]) -> Architecture:
    """The network that one of the dictionaries above is."""
    own = {name: value for name, value in fields.items() if name != "family"}
    return Architecture(family=families.by_name(fields["family"]), fields=own)


def random_published(fields: dict[str, Any], *, naming: Naming = Naming.ORIGINAL, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under published names, with the prefix of the original files."""
    generator = torch.Generator().manual_seed(seed)
    architecture = architecture_of(fields)
    prefix = architecture.family.names.prefix if naming is Naming.ORIGINAL else ""
    shapes = architecture.published_shapes(naming)
    return {prefix + name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


def model_of(fields: dict[str, Any]) -> torch.nn.Module:
    """An empty network in the current model-parallel world."""
    return architecture_of(fields).empty_network(dtype=torch.float32)


def name_the_size(monkeypatch: Any, fields: dict[str, Any]) -> None:
    """For the length of a test, make a size one that the project has a name for: only such can be imported."""
    from cosmos_nemo.models.autoregressive import config as sizes

    named = {name: value for name, value in fields.items() if name != "family"}
    monkeypatch.setitem(sizes.AUTOREGRESSIVE, "test", lambda: sizes.ARConfig(**named))


def golden_weights(shared_dir: Path) -> list[tuple[Path, Path | None]]:
    """Weights of the golden Predict2 networks: original names, and the same under diffusers names where there are."""
    folder = shared_dir / "golden" / "dit"
    originals = sorted(p for p in folder.glob("*predict2*.weights.safetensors") if not p.name.startswith("lora"))
    pairs = []
    for original in originals:
        peer = original.with_name(original.name.replace(".weights.", ".weights_diffusers."))
        pairs.append((original, peer if peer.is_file() else None))
    return pairs


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Same names, same values to the last bit."""
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)
