"""One way to load any video tokenizer."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.base import DiscreteVideoTokenizer, VideoTokenizer


def load_video_tokenizer(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> VideoTokenizer | DiscreteVideoTokenizer:
    """Recognise a video tokenizer by its files and load it.

    Args:
        path: a Wan autoencoder (see `wan.load_wan`), or a Cosmos tokenizer (see `cosmos.weights.find_jit`).
        device: where to put it.
        dtype: of the weights and the arithmetic; None is float32 for Wan and on a CPU, else the file's.

    Returns: what encodes clips to latents, or to tokens; `is_discrete` tells.

    Raises:
        UserError: nothing usable is there.
    """
    from cosmos_nemo.tokenizers.cosmos.tokenizer import load_cosmos_tokenizer
    from cosmos_nemo.tokenizers.wan import load_wan

    kind = recognise(path)
    if kind == "cosmos":
        return load_cosmos_tokenizer(path, device=device, dtype=dtype)
    return load_wan(path, device=device, dtype=dtype or torch.float32)


def load_discrete_tokenizer(
    path: str | os.PathLike[str], *, vocab_size: int, field: str, device: torch.device | str = "cpu"
) -> DiscreteVideoTokenizer:
    """Load a tokenizer that makes tokens for a network.

    Args:
        path: see `load_video_tokenizer`.
        vocab_size: tokens that the network knows.
        field: what the user calls `path`, for messages.
        device: where to put it.

    Raises:
        UserError: nothing usable is there, it makes latents, or more tokens than the network knows.
    """
    tokenizer = load_video_tokenizer(path, device=device)
    if not hasattr(tokenizer, "vocab_size"):
        raise UserError(
            f"{field} {path} makes latents, not tokens; give a DV tokenizer such as Cosmos-Tokenize1-DV8x16x16-720p."
        )
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{field} {path} has a vocabulary of {tokenizer.vocab_size}, the network one of {vocab_size}; take the "
            "tokenizer it was trained with."
        )
    return tokenizer


def find_video_tokenizer(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The weight files that `load_video_tokenizer` would read.

    Raises:
        UserError: there are none.
    """
    from cosmos_nemo.tokenizers.cosmos.weights import find_jit
    from cosmos_nemo.tokenizers.wan import find_wan

    return find_jit(path) if recognise(path) == "cosmos" else find_wan(path)


def recognise(path: str | os.PathLike[str]) -> str:
    """Say whose files lie at a path: "cosmos" or "wan".

    Raises:
        UserError: nobody's.
    """
    from cosmos_nemo.tokenizers.cosmos.weights import find_jit
    from cosmos_nemo.tokenizers.wan import find_wan

    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"no video tokenizer at {place}: it does not exist")
    # `.pt` is a suffix of both: the published Wan file is named tokenizer.pth.
    finders = {"wan": find_wan, "cosmos": find_jit} if place.suffix == ".pth" else {"cosmos": find_jit, "wan": find_wan}
    for kind, find in finders.items():
        try:
            find(place)
        except UserError:
            continue
        return kind
    raise UserError(
        f"no video tokenizer at {place}: give a folder with autoencoder.jit, or encoder.jit and decoder.jit (Cosmos), "
        "or a diffusers folder or tokenizer.pth (Wan)"
    )


def is_discrete(tokenizer: VideoTokenizer | DiscreteVideoTokenizer) -> bool:
    """Whether a tokenizer makes tokens rather than latents."""
    return hasattr(tokenizer, "vocab_size")
