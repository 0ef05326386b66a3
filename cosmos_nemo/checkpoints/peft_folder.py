"""Adapters alone, in PEFT's layout: a folder with `adapter_model.safetensors` and `adapter_config.json`.

The config is PEFT's own, so that `PeftModel.from_pretrained` takes the folder. Which network the adapters belong to
stands in the header of the safetensors file, where PEFT does not look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from cosmos_nemo import families
from cosmos_nemo.checkpoints.adapters import Matrices, take_adapters
from cosmos_nemo.checkpoints.weights_file import read_entries
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.adapter_names import INJECTED, PEFT, PEFT_PREFIX, AdaptedMap
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.runs.layout import read_json

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_WEIGHTS_NAMES = (WEIGHTS_NAME, "adapter_model.bin")
_HEADER = "cosmos_nemo"

_NOT_READ = {
    "use_dora": (False,),
    "fan_in_fan_out": (False,),
    "bias": ("none",),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": (None, []),
}
"""Settings of PEFT with another meaning than plain adapters, and their values that have none."""


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """What a file of adapters holds."""

    path: Path
    matrices: Matrices
    alpha: float | None
    """In units of 1 / rank; None if the file does not say."""
    architecture: Architecture | None
    """The network that they belong to; None if the file does not say."""


def is_adapter_file(path: Path) -> bool:
    """Return whether a path is a folder of adapters, or the file in one."""
    return _weights_file(path) is not None


def read_adapter_file(path: Path) -> AdapterFile:
    """Read adapters that PEFT or this project wrote.

    Raises:
        UserError: not readable, no adapters in it, or of a kind that is more than plain adapters.
    """
    file = _weights_file(path)
    if file is None:
        raise UserError(f"{path} holds no adapters: neither it nor {CONFIG_NAME} beside {WEIGHTS_NAME} is there.")
    config = file.parent / CONFIG_NAME
    alpha = _alpha(read_json(config, "copy the whole folder"), config) if config.is_file() else None
    state = {_bare(key): tensor for key, tensor in read_entries(file).items()}
    for pattern in (PEFT, INJECTED):
        rest, matrices = take_adapters(state, pattern, source=str(file))
        if matrices.down:
            break
    if rest or not matrices.down:
        other = ", ".join(list(rest)[:4])
        raise UserError(f"{file} holds {f'more than adapters ({other})' if matrices.down else 'no adapters'}.")
    return AdapterFile(path=file, matrices=matrices, alpha=alpha, architecture=_architecture(file))


def write_adapter_folder(
    folder: Path, matrices: Matrices, maps: Sequence[AdaptedMap], lora: LoRA, architecture: Architecture, *, base: str
) -> int:
    """Write adapters into a folder that is there and empty.

    Args:
        folder: the folder.
        matrices: what is written.
        maps: what they adapt, under the names that the file shall have.
        lora: their settings.
        architecture: the network that they belong to.
        base: where its weights are from, for people.

    Returns:
        number of tensors.
    """
    state = {PEFT_PREFIX + name: tensor.contiguous() for name, tensor in matrices.named(PEFT).items()}
    described = {"family": architecture.family.name, "model": dict(architecture.fields)}
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt", _HEADER: json.dumps(described)})
    (folder / CONFIG_NAME).write_text(json.dumps(_config(maps, lora, base), indent=2) + "\n")
    return len(state)


def _config(maps: Sequence[AdaptedMap], lora: LoRA, base: str) -> dict[str, Any]:
    """PEFT's settings for the same adapters."""
    names = [item.weight.removesuffix(".weight") for item in maps]
    if lora.blocks is None:  # what follows the block's number means the map in every block
        names = list(dict.fromkeys(re.sub(r"^.*?\.\d+\.", "", name) for name in names))
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.factor * lora.rank,
        "target_modules": names,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _weights_file(path: Path) -> Path | None:
    """The file with the matrices, if a path is a folder of adapters or that file."""
    if path.is_file():
        return path if path.name in _WEIGHTS_NAMES else None
    return next((path / name for name in _WEIGHTS_NAMES if (path / name).is_file()), None)


def _bare(key: str) -> str:
    """A key as the name table has it: without what PEFT, diffusers and upstream put before it."""
    for prefix in (PEFT_PREFIX, "transformer."):
        key = key.removeprefix(prefix)
    for family in families.FAMILIES:
        key = family.names.bare(key)
    return key


def _alpha(config: Mapping[str, Any], file: Path) -> float:
    """The alpha that means the same without PEFT's options.

    Raises:
        UserError: a setting that this project does not know.
    """
    for name, legal in _NOT_READ.items():
        if name in config and config[name] not in legal:
            raise UserError(f"{file}: adapters with {name}={config[name]!r} are not read; merge them with PEFT first.")
    if config.get("peft_type") != "LORA" or not {"r", "lora_alpha"} <= config.keys():
        raise UserError(f"{file} does not describe LoRA adapters (peft_type, r, lora_alpha).")
    rank, alpha = float(config["r"]), float(config["lora_alpha"])
    return alpha * rank**0.5 if config.get("use_rslora") else alpha


def _architecture(file: Path) -> Architecture | None:
    """The network that the header of a safetensors file names."""
    if file.suffix != ".safetensors":
        return None
    with safe_open(file, framework="pt") as opened:
        described = (opened.metadata() or {}).get(_HEADER)
    if described is None:
        return None
    content = json.loads(described)
    return Architecture(family=families.by_name(content["family"], source=str(file)), fields=content["model"])
