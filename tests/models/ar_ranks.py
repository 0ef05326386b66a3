"""What each rank of the parallel autoregressive tests runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.loss import NextTokenObjective, next_token_labels, next_token_loss
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer
from tests.models.adapted import adapt
from tests.models.ar_cases import (
    LATENT_SHAPE,
    ar_config,
    ar_inputs,
    ar_randomise,
    ar_text_config,
    in_whole_order,
)
from tests.models.parallel import OPTIMIZER, parallel_step, set_parallel_state, whole

Outcome = dict[str, Any]

LAYOUTS: dict[str, dict[str, Any]] = {
    "tp2": {"tensor_model_parallel_size": 2},
    "tp2_sp": {"tensor_model_parallel_size": 2, "sequence_parallel": True},
    "cp2_a2a": {"context_parallel_size": 2},
    "cp2_all_gather": {"context_parallel_size": 2, "cp_comm_type": "all_gather"},
    "pp2": {"pipeline_model_parallel_size": 2, "pipeline_dtype": torch.float32},
    "dp2_distributed_optimizer": {},
    "tp2_sp_recompute_full": {
        "tensor_model_parallel_size": 2,
        "sequence_parallel": True,
        "recompute_granularity": "full",
    },
    "tp2_sp_recompute_selective": {
        "tensor_model_parallel_size": 2,
        "sequence_parallel": True,
        "recompute_granularity": "selective",
    },
    "pp2_recompute_full": {
        "pipeline_model_parallel_size": 2,
        "pipeline_dtype": torch.float32,
        "recompute_granularity": "full",
    },
}
"""Every way of cutting the network over two processes."""

FAMILIES = {"video": ar_config, "text": ar_text_config, "lora": ar_text_config}
"""A network without text (60 tokens), one with (61, an odd number, so that padding is met), its adapters alone."""


def is_run(layout: str, family: str) -> bool:
    """Whether a layout is tried on a family: what they do not share."""
    if family == "lora":
        return layout in ("tp2", "tp2_sp", "tp2_sp_recompute_selective", "pp2", "pp2_recompute_full", "cp2_a2a")
    return layout.startswith("pp2") or family == "video" or "recompute" not in layout


CLIP = 0.3
"""Below every gradient norm here, so that clipping acts."""

OBJECTIVE = NextTokenObjective(z_loss_coeff=1e-2)  # large enough to be seen in the gradients


def compare_layouts(checkpoint_dir: str) -> dict[str, Outcome]:
    """Loss, gradient norm, whole gradients and parameters after one clipped step, serially and for every layout."""
    from cosmos_nemo.platform.install import install

    install()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    outcomes: dict[str, Outcome] = {}
    for family in FAMILIES:
        outcomes[f"serial {family}"] = _serial(family)
        for layout, settings in LAYOUTS.items():
            if is_run(layout, family):
                outcome = _parallel(family, settings)
                for what in ("gradients", "parameters"):
                    outcome[what] = _in_whole_order(outcome[what], outcomes[f"serial {family}"][what], settings)
                outcomes[f"{layout} {family}"] = outcome
    outcomes["checkpoint"] = {
        f"{layout} {family}": _checkpoint_across_sizes(family, LAYOUTS[layout], f"{checkpoint_dir}/{layout}-{family}")
        for layout, family in (("tp2_sp", "video"), ("pp2", "text"), ("tp2", "lora"))
    }
    serial = _fresh({})
    outcomes["fresh"] = {
        layout: _in_whole_order(_fresh(settings), serial, settings)
        for layout, settings in (("serial", {}), ("tp2", LAYOUTS["tp2"]), ("pp2", LAYOUTS["pp2"]))
    }
    outcomes["cached tp2"] = _cached(LAYOUTS["tp2"])
    return outcomes


def model_of(make_config: Any, settings: dict[str, Any]) -> AutoregressiveTransformer:
    """This rank's part of the network, with values that do not depend on how it is cut."""
    from megatron.core import parallel_state

    set_parallel_state(settings)
    model = AutoregressiveTransformer(
        make_config(**settings),
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
    )
    ar_randomise(model)
    return model


def _loss_of(model: AutoregressiveTransformer, inputs: dict[str, Any]) -> Any:
    labels = next_token_labels(
        inputs["tokens_B_S"], latent_shape=LATENT_SHAPE, config=model.config, objective=OBJECTIVE
    )
    token_range = model.token_range(labels.shape[1])

    def loss(logits: Tensor) -> Tensor:
        return next_token_loss(
            logits, labels, objective=OBJECTIVE, token_range=token_range, tp_group=model.groups.tp
        ).total

    return loss


def _inputs(config: ARConfig) -> dict[str, Any]:
    return ar_inputs(config, batch_size=2)


def _serial(family: str) -> Outcome:
    """Plain torch, one process: cross entropy and logsumexp are torch's own, on whole logits."""
    model = _family_model(family, {})
    config, inputs = model.config, _inputs(model.config)
    tokens = inputs["tokens_B_S"]
    logits = model(**inputs).transpose(0, 1)[:, :-1]
    given = config.num_prefix_tokens + 20
    ce = torch.nn.functional.cross_entropy(logits[:, given - 1 :].flatten(0, 1), tokens[:, given:].flatten())
    loss = ce + OBJECTIVE.z_loss_coeff * logits.logsumexp(-1).square().mean()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    torch.optim.Adam(model.parameters(), **OPTIMIZER).step()
    return {
        "loss": loss.item(),
        "grad_norm": norm.item(),
        "gradients": gradients,
        "parameters": {name: parameter.detach() for name, parameter in model.named_parameters()},
    }


def _family_model(family: str, settings: dict[str, Any]) -> AutoregressiveTransformer:
    model = model_of(FAMILIES[family], settings)
    if family == "lora":
        adapt(model)
    return model


def _parallel(family: str, settings: dict[str, Any]) -> Outcome:
    from megatron.core import parallel_state

    model = _family_model(family, settings)
    inputs = _inputs(model.config)

    def forward_step(network: Any, share: int, shares: int) -> Any:
        mine = {k: v.chunk(shares)[share] if isinstance(v, Tensor) else v for k, v in inputs.items()}
        return network(**mine), _loss_of(model, mine)

    outcome = parallel_step(
        model,
        forward_step,
        num_microbatches=2 if model.config.pipeline_model_parallel_size > 1 else 1,
        seq_length=inputs["tokens_B_S"].shape[1],
        clip_grad=CLIP,
    )
    # The loss is there in parts over context-parallel ranks, and on the last pipeline stage only.
    loss = torch.tensor(outcome["loss"], dtype=torch.float64)
    for group in (parallel_state.get_context_parallel_group(), parallel_state.get_pipeline_model_parallel_group()):
        torch.distributed.all_reduce(loss, group=group)
    # Megatron's schedule multiplies what it differentiates, not what it reports.
    return {**outcome, "loss": loss.item()}


def _checkpoint_across_sizes(family: str, settings: dict[str, Any], folder: str) -> Outcome:
    """Saves the cut network with Megatron's distributed checkpoint, loads it whole."""
    from pathlib import Path

    from megatron.core import dist_checkpointing

    Path(folder).mkdir(exist_ok=True)
    saved = _family_model(family, settings)
    dist_checkpointing.save(saved.sharded_state_dict(prefix="module."), folder)
    torch.distributed.barrier()
    loaded = _family_model(family, {})
    wanted = {name: parameter.detach().clone() for name, parameter in loaded.named_parameters()}
    for parameter in loaded.parameters():
        parameter.data.zero_()
    state = dist_checkpointing.load(loaded.sharded_state_dict(prefix="module."), folder)
    loaded.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return {"wanted": wanted, "loaded": {name: parameter.detach() for name, parameter in loaded.named_parameters()}}


def _fresh(settings: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a new network, under the names of the whole one."""
    from megatron.core import parallel_state

    set_parallel_state(settings)
    model = AutoregressiveTransformer(
        ar_text_config(**settings),
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
    )
    return {name: whole(parameter, parameter.detach()) for name, parameter in model.named_parameters()}


def _in_whole_order(found: dict[str, Tensor], serial: dict[str, Tensor], settings: dict[str, Any]) -> dict[str, Tensor]:
    tp = settings.get("tensor_model_parallel_size", 1)
    return {name: in_whole_order(name, value, serial[name].shape[0], tp) for name, value in found.items()}


def _cached(settings: dict[str, Any]) -> Outcome:
    """Logits of the whole vocabulary with and without a cache."""
    model = model_of(ar_text_config, settings).eval()
    inputs = _inputs(model.config)
    tokens = inputs.pop("tokens_B_S")[:, :30]
    with torch.no_grad():
        cache = KVCache(30)
        cached = [model(tokens[:, i:j], cache=cache, **inputs) for i, j in ((0, 27), (27, 28), (28, 30))]
        return {
            "cached": model.whole_vocabulary(torch.cat(cached)),
            "whole": model.whole_vocabulary(model(tokens, **inputs)),
            "serial": model_of(ar_text_config, {}).eval()(tokens, **inputs),
        }
