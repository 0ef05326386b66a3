"""Reads the weights of Cosmos tokenizers into trainable networks, strictly.

The published folders hold TorchScript files. Their state dicts have the published keys, and beside them constants of
the code that made them, which are named here and left out; everything else must fit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.network import ContinuousNetwork, DiscreteNetwork, build_network

AUTOENCODER, ENCODER, DECODER = "autoencoder.jit", "encoder.jit", "decoder.jit"
TRAINING_SUFFIXES = (".pt", ".pth")
TRAINING_PREFIX, TRAINING_EMA_PREFIX = "network.", "ema.network-"

CONSTANTS = re.compile(
    r"encoder\.patcher3d\.(wavelets|_arange|patch_size_buffer)"
    r"|decoder\.unpatcher3d\.(wavelets|_arange)"
    r"|(inv_quant\.)?quantizer\.(_levels|_basis|implicit_codebook)"
)
"""Buffers that TorchScript files hold and no weights are."""

UNUSED = re.compile(r"(encoder\.down\.\d+\.downsample|decoder\.up\.\d+\.upsample)\.conv[123]\.conv3d\.(weight|bias)")
"""Convolutions that some implementations create at every level and use at few; left out where the size is known."""


def find_jit(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files that `load_network` would read.

    Args:
        path: a folder with `autoencoder.jit` or with `encoder.jit` and `decoder.jit`; an `autoencoder.jit` itself; or
            a training file of the original code, `.pt`.

    Raises:
        UserError: there are none.
    """
    place = Path(path).expanduser()
    if place.is_file() and (place.name == AUTOENCODER or place.suffix in TRAINING_SUFFIXES):
        return (place,)
    folder = place.parent if place.is_file() and place.suffix == ".jit" else place
    if (folder / AUTOENCODER).is_file():
        return (folder / AUTOENCODER,)
    parts = (folder / ENCODER, folder / DECODER)
    if all(part.is_file() for part in parts):
        return parts
    found = f"only {next(p.name for p in parts if p.is_file())}" if any(p.is_file() for p in parts) else "neither"
    raise UserError(
        f"no Cosmos video tokenizer at {place}: give a folder with {AUTOENCODER}, or with {ENCODER} and {DECODER} "
        f"(it has {found})"
    )


def load_network(
    path: str | os.PathLike[str],
    *,
    expected: CosmosTokenizerConfig | None = None,
    ema: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[CosmosTokenizerConfig, ContinuousNetwork | DiscreteNetwork]:
    """Build the network that a published tokenizer's weights belong to, and load them.

    Args:
        path: see `find_jit`.
        expected: the size they should have; without it, it is read off the weights.
        ema: of a training file, take the averaged weights.
        dtype: of the network; None keeps the file's (published files are bfloat16).

    Returns: its config and the network, on the CPU, in train mode, trainable.

    Raises:
        UserError: nothing usable is there, it is of another kind than expected, keys are missing or unexpected, or
            weights are NaN or infinite.
    """
    files = find_jit(path)
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(_read_training_file(file, ema=ema) if file.suffix in TRAINING_SUFFIXES else read_jit(file))
    source = str(files[0] if len(files) == 1 else files[0].parent)
    found = infer_config(state, source=source, like=expected)
    if expected is not None and found.sizes() != expected.sizes():
        raise UserError(f"{source} holds a {describe(found)}, not the {describe(expected)} that was asked for")
    network = build_network(found).to(dtype or _common_dtype(state.values()))
    load_weights(network, state, source=source)
    return found, network


def load_weights(network: ContinuousNetwork | DiscreteNetwork, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy weights under published keys into a network, strictly.

    Args:
        network: of the right size.
        state: published keys; constants of the published code are left out, and convolutions that the network does
            not use.
        source: for messages.

    Raises:
        UserError: a key is missing, unexpected or of another shape, or a weight is NaN or infinite.
    """
    wanted = network.state_dict()
    given = {
        name: tensor
        for name, tensor in state.items()
        if not CONSTANTS.fullmatch(name) and (name in wanted or not UNUSED.fullmatch(name))
    }
    problems = {
        "missing": wanted.keys() - given.keys(),
        "unexpected": given.keys() - wanted.keys(),
        "of another shape": {n for n in wanted.keys() & given.keys() if wanted[n].shape != given[n].shape},
        "NaN or infinite": {n for n, tensor in given.items() if not bool(torch.isfinite(tensor).all())},
    }
    found = "; ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in problems.items() if names)
    if found:
        raise UserError(f"the weights in {source} do not fit a {describe(network.config)}: {found}")
    network.load_state_dict(given)


def infer_config(
    state: Mapping[str, Tensor], *, source: str, like: CosmosTokenizerConfig | None = None
) -> CosmosTokenizerConfig:
    """Read a tokenizer's size off the keys and shapes of its weights.

    Args:
        state: published keys, with the constants.
        source: for messages.
        like: the size that is expected. It decides what the keys cannot tell: which levels change the resolution,
            where they include convolutions that are not used; and whether few latent channels are a quantizer's,
            where its buffers are not there.

    Raises:
        UserError: these are not the weights of a Cosmos video tokenizer.
    """
    try:
        patched = state["encoder.conv_in.0.conv3d.weight"].shape
        post_quant = state["post_quant_conv.conv3d.weight"].shape
    except KeyError as error:
        raise UserError(f"{source} does not hold a Cosmos video tokenizer: {error} is missing") from None
    levels = next((tuple(map(int, state[name])) for name in state if name.endswith("quantizer._levels")), None)
    if levels is None and like is not None and like.discrete and post_quant[1] == len(like.levels):
        levels = like.levels  # training files do not hold the quantizer's buffers
    num_levels = _count(state, r"encoder\.down\.(\d+)\..*")
    outputs = [state.get(f"encoder.down.{i}.block.0.conv1.0.conv3d.weight") for i in range(num_levels)]
    patch_size = round((patched[1] / 3) ** (1 / 3))
    if not outputs or any(weight is None or weight.shape[0] % patched[0] for weight in outputs):
        raise UserError(f"{source} does not hold a Cosmos video tokenizer: its levels have no regular widths")
    time, space = _downsamples(state, 2), _downsamples(state, 1)
    if num_levels > 1 and time == space == num_levels - 1:  # no decoder could undo that: most of these are not used
        if like is None:
            raise UserError(
                f"{source} has resampling convolutions at every level, so its keys do not tell its compression; "
                f"say which size it is"
            )
        time, space = like.temporal_downsamples, like.spatial_downsamples
    return CosmosTokenizerConfig(
        discrete=levels is not None,
        temporal_compression=patch_size * 2**time,
        spatial_compression=patch_size * 2**space,
        patch_size=patch_size,
        channels=patched[0],
        channels_mult=tuple(weight.shape[0] // patched[0] for weight in outputs if weight is not None),
        num_res_blocks=_count(state, r"encoder\.down\.0\.block\.(\d+)\..*"),
        attention_levels=_levels_with_attention(state, "encoder.down"),
        decoder_attention_levels=_levels_with_attention(state, "decoder.up"),
        z_channels=post_quant[0],
        **({"levels": levels} if levels is not None else {"latent_channels": post_quant[1]}),
    )


def describe(config: CosmosTokenizerConfig) -> str:
    """A tokenizer in a few words, for messages."""
    widths = "x".join(str(config.channels * multiple) for multiple in config.channels_mult)
    latent = f"{config.vocab_size} tokens" if config.discrete else f"{config.latent_channels} latent channels"
    return f"{config.name} tokenizer (widths {widths}, {config.num_res_blocks} blocks, {latent})"


def read_jit(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a TorchScript file, constants included.

    Raises:
        UserError: it is none.
    """
    try:
        module = torch.jit.load(str(file), map_location="cpu")
    except Exception as error:  # torch raises runtime, unpickling, zip and OS errors
        raise UserError(f"{file} cannot be read as a TorchScript file: {_first_line(error)}") from error
    state: dict[str, Tensor] = module.state_dict()
    return state


def _read_training_file(file: Path, *, ema: bool) -> dict[str, Tensor]:
    """`{"model": {"network.KEY": ..., "ema.network-KEY-WITH-DASHES": ...}}`, or such a dictionary itself."""
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises runtime, unpickling, zip and OS errors
        raise UserError(f"{file} cannot be read as weights: {_first_line(error)}") from error
    entries = content.get("model", content) if isinstance(content, Mapping) else {}
    state = take_network(entries, ema=ema, source=str(file))
    if not state:
        raise UserError(f"{file} holds no weights of a video tokenizer")
    return state


def take_network(entries: Mapping[str, Any], *, ema: bool, source: str) -> dict[str, Tensor]:
    """Return the network's tensors in a training file of the original code, under their published keys.

    Args:
        entries: keys as in the file, or published keys.
        ema: take the averaged weights, whose keys have dashes instead of dots.
        source: for messages.

    Raises:
        UserError: averaged weights are asked for and there are none.
    """
    kept = {k.removeprefix(TRAINING_PREFIX): v for k, v in entries.items() if not k.startswith(("ema.", "loss."))}
    plain = {name: value for name, value in kept.items() if isinstance(value, Tensor)}
    if not ema:
        return plain
    names = {key.replace(".", "-"): key for key in plain}
    averaged = {k.removeprefix(TRAINING_EMA_PREFIX): v for k, v in entries.items() if k.startswith("ema.")}
    state = {names[key]: value for key, value in averaged.items() if key in names}
    if not state:
        raise UserError(f"{source} holds no averaged (EMA) weights; ask for the plain ones")
    return state


def _common_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """The dtype that holds all floating-point tensors exactly."""
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    dtype = dtypes.pop()
    for other in dtypes:
        dtype = torch.promote_types(dtype, other)
    return dtype


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that the pattern's group takes in a key."""
    matches = (re.fullmatch(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def _downsamples(state: Mapping[str, Tensor], convolution: int) -> int:
    """Levels of the encoder that have downsampling convolution 1 (space) or 2 (time)."""
    return sum(f"encoder.down.{i}.downsample.conv{convolution}.conv3d.weight" in state for i in range(16))


def _levels_with_attention(state: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.attn\..*")
    return tuple(sorted({int(match[1]) for match in map(pattern.fullmatch, state) if match}))


def _few(names: Iterable[str]) -> str:
    """Some of many names."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
