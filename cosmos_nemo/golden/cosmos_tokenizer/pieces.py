"""Check the parts of a tokenizer that have no weights: quantizer and wavelets."""

import torch
from torch import Tensor

from cosmos_nemo.golden.compare import Comparison, compare, failed
from cosmos_nemo.golden.manifest import Case
from cosmos_nemo.tokenizers.cosmos.fsq import FiniteScalarQuantizer
from cosmos_nemo.tokenizers.cosmos.haar import HaarPatcher, HaarUnpatcher


@torch.no_grad()
def check_fsq(case: Case) -> list[Comparison]:
    """Look recorded tokens up, and quantize recorded vectors."""
    io = case.load()
    quantizer = FiniteScalarQuantizer(io["levels"].tolist())
    quantized = quantizer(io["z"])
    computed = {
        "basis": quantizer._basis,
        "codes": quantizer.codes(io["indices"].view(1, 1, 1, -1))[0, :, 0, 0].T,
        "z_bound": quantizer.bound(io["z"].movedim(1, -1)),
        "z_indices": quantized.indices_B_T_H_W,
        "z_codes": quantized.codes_B_D_T_H_W,
    }
    comparisons = [
        compare(name, value, io[name], case.allowed("activations" if value.is_floating_point() else "integers"))
        for name, value in computed.items()
    ]
    unknown = io.keys() - computed.keys() - {"levels", "indices", "z"}
    return comparisons + [failed(name, "this project has no such quantity") for name in sorted(unknown)]


@torch.no_grad()
def check_haar(case: Case) -> list[Comparison]:
    """Cut recorded videos into wavelet patches, and join recorded patches."""
    io = case.load()
    comparisons = []
    for name in io:
        size, _, quantity = name.partition(".")
        if not (size.startswith("p") and size[1:].isdigit()) or quantity not in ("video", "patched", "unpatched"):
            comparisons.append(failed(name, "this project has no such quantity"))
            continue
        patch_size = int(size[1:])
        if quantity == "patched":
            value = video_axes(HaarPatcher(patch_size)(io[f"{size}.video"]))
        elif quantity == "unpatched":
            value = HaarUnpatcher(patch_size)(io[f"{size}.patched"].permute(2, 0, 1, 3, 4))
        else:
            continue
        comparisons.append(compare(name, value, io[name], case.allowed("activations")))
    return comparisons


def video_axes(x_T_B_C_H_W: Tensor) -> Tensor:
    """Return x_T_B_C_H_W as x_B_C_T_H_W."""
    return x_T_B_C_H_W.permute(1, 2, 0, 3, 4)
