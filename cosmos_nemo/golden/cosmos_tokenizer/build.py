"""From a tokenizer case to this project's config."""

from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.manifest import Case
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig

FIXED = {
    "in_channels": 3,
    "out_channels": 3,
    "dropout": 0.0,
    "patch_method": "haar",
    "z_factor": 1,
    "num_groups": 1,
    "legacy_mode": False,
    "formulation": "AE",
    "quantizer": "FSQ",
    "encoder": "FACTORIZED",
    "decoder": "FACTORIZED",
}
"""Upstream settings that every published video tokenizer has at this value; no other value is built here."""

SAME_NAMES = (
    "temporal_compression",
    "spatial_compression",
    "patch_size",
    "channels",
    "channels_mult",
    "num_res_blocks",
    "z_channels",
)


def build_config(case: Case) -> CosmosTokenizerConfig:
    """Translate upstream's network settings.

    Raises:
        UserError: a setting that this project does not build.
    """
    for key, value in FIXED.items():
        if case.config.get(key, value) != value:
            raise UserError(f"{key}={case.config[key]!r} is not built; every published tokenizer has {value!r}")
    # Upstream names resolutions with attention, and halves a nominal resolution from level to level.
    resolution = case.setting("resolution") // case.setting("patch_size")
    numbers = range(len(case.setting("channels_mult")))
    attention = tuple(level for level in numbers if resolution >> level in case.setting("attn_resolutions"))
    fields: dict[str, Any] = {name: case.setting(name) for name in SAME_NAMES}
    if discrete := "quantizer" in case.config:
        fields["levels"] = case.setting("levels")
    else:
        fields["latent_channels"] = case.setting("latent_channels")
    return CosmosTokenizerConfig(
        discrete=discrete, attention_levels=attention, decoder_attention_levels=attention, **fields
    )
