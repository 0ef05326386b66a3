"""Read text embeddings of a dataset folder, upstream's `t5_xxl/*.pickle`, without running what is in them."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmos_nemo.media.pictures import VideoError
from cosmos_nemo.tokenizers.text import MAX_TOKENS

_ALLOWED = {  # what arrays are made of; numpy 1 and 2 name their modules differently
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),  # pickle protocol 5
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),  # pickle protocol 2
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
FLOAT16_MAX = 65504.0


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not part of an array")
        return super().find_class(module.replace("numpy._core", "numpy.core"), name)


def read_embedding(file: Path) -> Tensor:
    """Read a list with one array [n_tokens, width], or the array itself.

    Returns:
        shape [L, E], bfloat16, at most 512 tokens; zero rows at the end, which are padding, are cut off.

    Raises:
        VideoError: it is something else.
    """
    try:
        content = _ArraysOnly(io.BytesIO(file.read_bytes())).load()
    except Exception as error:  # a pickle can fail in any way
        raise VideoError(f"text embedding {file.name} cannot be read: {error}") from error
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, np.ndarray) or content.ndim != 2 or not len(content) or content.dtype.kind != "f":
        raise VideoError(f"text embedding {file.name} is not one array of [tokens, width]")
    if np.isnan(content).any():
        raise VideoError(f"text embedding {file.name} holds values that are not numbers")
    # T5-11B has values beyond float16's range, which upstream stores as infinities.
    text_L_E = torch.from_numpy(content[:MAX_TOKENS].astype(np.float32)).clamp(-FLOAT16_MAX, FLOAT16_MAX)
    filled = text_L_E.ne(0).any(dim=1).nonzero()
    length = int(filled[-1]) + 1 if len(filled) else 1
    return text_L_E[:length].to(torch.bfloat16)
