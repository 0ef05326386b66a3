"""Captions to T5 embeddings.

Captions are encoded at their natural length: with the attention mask, the result equals that of a caption padded to
512 tokens, at a fraction of the work.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError

MAX_TOKENS = 512  # captions are truncated here, the closing </s> included; what Cosmos models were trained with


class T5TextEncoder:
    """A T5 encoder and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, *, path: Path, files: tuple[Path, ...]) -> None:
        """Wrap a network.

        Args:
            model: a transformers `T5EncoderModel`.
            tokenizer: its fast tokenizer.
            path: where they came from.
            files: the files they were made of.
        """
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.path = path
        self.files = files
        self.width: int = model.config.d_model

    def to(self, device: torch.device | str) -> "T5TextEncoder":
        """Move the weights; returns self."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def encode(
        self, captions: Sequence[str], *, batch_size: int = 8, dtype: torch.dtype = torch.bfloat16
    ) -> list[Tensor]:
        """Embed captions. Equal captions are computed once.

        Args:
            captions: any number of texts.
            batch_size: texts per forward pass; texts of similar length go together.
            dtype: of the result; not float16, as T5-11B has activations beyond 65504.

        Returns: per caption its embedding, trimmed to its token count, shape [L, width], on the CPU.
            Equal captions share one tensor.
        """
        unique = list(dict.fromkeys(captions))
        tokens = {c: self.tokenizer(c, truncation=True, max_length=MAX_TOKENS).input_ids for c in unique}
        by_length = sorted(unique, key=lambda c: len(tokens[c]))
        embeddings: dict[str, Tensor] = {}
        for start in range(0, len(by_length), batch_size):
            chunk = by_length[start : start + batch_size]
            hidden = self._encode_batch([tokens[c] for c in chunk])
            embeddings.update(zip(chunk, (text_L_E.to(dtype) for text_L_E in hidden), strict=True))
        return [embeddings[c] for c in captions]

    def _encode_batch(self, tokens: list[list[int]]) -> list[Tensor]:
        longest = max(map(len, tokens))
        ids_B_L = torch.full((len(tokens), longest), self.tokenizer.pad_token_id or 0)
        mask_B_L = torch.zeros(len(tokens), longest, dtype=torch.long)
        for row, ids in enumerate(tokens):
            ids_B_L[row, : len(ids)] = torch.tensor(ids)
            mask_B_L[row, : len(ids)] = 1
        device = next(self.model.parameters()).device
        hidden_B_L_E = self.model(
            input_ids=ids_B_L.to(device), attention_mask=mask_B_L.to(device)
        ).last_hidden_state.cpu()
        return [hidden_B_L_E[row, : len(ids)].clone() for row, ids in enumerate(tokens)]


def find_t5(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files that `load_t5` would read.

    Raises:
        UserError: there is no T5 encoder.
    """
    model_dir, tokenizer_dir = _folders(Path(path).expanduser())
    suffixes = (".json", ".safetensors", ".bin", ".model")
    folders = dict.fromkeys((model_dir, tokenizer_dir))
    return tuple(f for folder in folders for f in sorted(folder.iterdir()) if f.suffix in suffixes)


def load_t5(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> T5TextEncoder:
    """Load a T5 encoder and its tokenizer from local files.

    Args:
        path: a transformers folder holding both (such as `google-t5/t5-11b` downloaded), or a diffusers pipeline folder
            with `text_encoder/` and `tokenizer/`.
        device: where to put it.
        dtype: of the weights.

    Raises:
        UserError: nothing usable is there.
    """
    from transformers import T5EncoderModel, T5TokenizerFast

    place = Path(path).expanduser()
    model_dir, tokenizer_dir = _folders(place)
    try:
        tokenizer = T5TokenizerFast.from_pretrained(str(tokenizer_dir), local_files_only=True)
        model, info = T5EncoderModel.from_pretrained(
            str(model_dir), dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"the text encoder in {place} cannot be loaded: {reason}") from error
    if info["missing_keys"]:
        raise UserError(f"the weights in {model_dir} lack {sorted(info['missing_keys'])[:3]} of a T5 encoder")
    return T5TextEncoder(model, tokenizer, path=place, files=find_t5(place)).to(device)


def _folders(place: Path) -> tuple[Path, Path]:
    """Folders of the model and of the tokenizer."""
    model_dir, tokenizer_dir = place, place
    if not (place / "config.json").is_file() and (place / "text_encoder" / "config.json").is_file():
        model_dir, tokenizer_dir = place / "text_encoder", place / "tokenizer"
    config_file = model_dir / "config.json"
    if not config_file.is_file() or not tokenizer_dir.is_dir():
        raise UserError(f"no T5 text encoder at {place}: give a folder with config.json, weights and tokenizer files")
    try:
        model_type = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    except json.JSONDecodeError as error:
        raise UserError(f"{config_file} is not JSON: {error}") from error
    if model_type != "t5":
        raise UserError(f"{config_file} describes a {model_type!r} model; Cosmos needs a T5 encoder (t5-11b)")
    return model_dir, tokenizer_dir
