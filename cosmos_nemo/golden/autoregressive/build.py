"""From an autoregressive case to this project's network."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.manifest import Case
from cosmos_nemo.parallel.process import World

if TYPE_CHECKING:
    from cosmos_nemo.models.autoregressive.config import ARConfig
    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer

TEXT_TO_VIDEO = "text_to_video"
"""Upstream's `training_type` of networks with a begin-of-video token."""


def build_config(settings: Mapping[str, Any], **overrides: Any) -> "ARConfig":
    """Translate upstream's names of a network's settings.

    Raises:
        UserError: a setting that this project does not build, or one that is missing.
    """
    from cosmos_nemo.models.autoregressive.config import ARConfig

    if settings.get("qk_norm", True) is not True:
        raise UserError("qk_norm=False is not built; every published network normalises queries and keys")
    names = {"dim", "n_layers", "n_heads", "n_kv_heads", "ffn", "vocab"}
    if missing := sorted(names - set(settings)):
        raise UserError(f"config has no {', '.join(missing)}")
    return ARConfig(
        num_layers=settings["n_layers"],
        hidden_size=settings["dim"],
        num_attention_heads=settings["n_heads"],
        num_query_groups=settings["n_kv_heads"],
        kv_channels=settings.get("head_dim"),
        ffn_hidden_size=settings["ffn"],
        vocab_size=settings.get("output_rows", settings["vocab"]),
        input_vocab_size=settings.get("embedding_rows", settings["vocab"]),
        layernorm_epsilon=settings.get("norm_eps", 1e-5),
        crossattn_emb_channels=settings.get("context_dim", 0),
        insert_cross_attn_every_k_layers=settings.get("every", 1),
        use_abs_pos_emb=settings.get("apply_abs_pos_emb", False),
        **position_settings(settings),
        **overrides,
    )


def position_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ARConfig that positions depend on."""
    fields = {
        "rotary_base": ("rope_theta", 500000.0),
        "use_yarn": ("apply_yarn", False),
        "yarn_scale": ("yarn_scale", settings.get("scale", 2.0)),
        "yarn_beta_fast": ("yarn_beta_fast", settings.get("beta_fast", 4.0)),
        "yarn_beta_slow": ("yarn_beta_slow", settings.get("beta_slow", 1.0)),
        "yarn_original_latent_shape": ("orig", settings.get("original_latent_shape", (3, 40, 64))),
    }
    found = {ours: settings.get(theirs, default) for ours, (theirs, default) in fields.items()}
    return {**found, "num_prefix_tokens": int(settings.get("training_type") == TEXT_TO_VIDEO)}


def build_model(
    case: Case, world: World, *, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> "AutoregressiveTransformer":
    """Return this project's network for a case's config, holding the given published weights.

    Raises:
        IndivisibleError: the network cannot be cut at this tensor-parallel size.
        UserError: the config asks for something this project does not build, or the weights do not fit.
    """
    from cosmos_nemo.checkpoints.convert import load_published_into
    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer

    size = world.sizes.tensor_model_parallel_size
    config = build_config(case.config, tensor_model_parallel_size=size, params_dtype=dtype)
    model = families.of_config(config).build(config)
    assert isinstance(model, AutoregressiveTransformer)
    load_published_into(model, weights)
    model.to(world.device)
    return model
