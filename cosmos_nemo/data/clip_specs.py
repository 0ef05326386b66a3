"""What the clips of each recipe are: the one table that `data_prep` and the recipes share. It imports nothing heavy."""

from dataclasses import dataclass, replace
from typing import Any

TEXT_LENGTH = 512  # tokens of a text embedding that the published models were trained with
TINY_TEXT_LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """The samples that a recipe is trained on."""

    task: str  # of the manifest
    kind: str  # of the manifest: latent, tokens or video
    num_frames: int  # pixel frames of a clip; of raw video, the frames that training needs at least
    height: int | None  # pixels; None leaves them as they are, training crops
    width: int | None
    fit: str = "stretch"  # how frames become that size; see `media.fit.Fit`
    text_length: int | None = None  # tokens; None for models without text
    size_multiple: int = 16  # height and width are multiples of it: the tokenizer's compression times the patch


_V2W = ClipSpec(task="video2world", kind="latent", num_frames=93, height=704, width=1280, text_length=TEXT_LENGTH)
_T2I = replace(_V2W, task="text2image", num_frames=1, height=768, width=1360)
# DV8x16x16, one chunk of 33 frames; frames keep their aspect ratio and are cut.
_AR = ClipSpec(task="autoregressive", kind="tokens", num_frames=33, height=640, width=1024, fit="cover")
_TOKENIZER = ClipSpec(task="tokenizer", kind="video", num_frames=49, height=None, width=None)
_TINY: dict[str, Any] = {"height": 64, "width": 96}

CLIP_SPECS: dict[str, ClipSpec] = {
    "cosmos_v2w_2b": _V2W,
    "cosmos_v2w_14b": _V2W,
    "cosmos_v2w_tiny": replace(_V2W, num_frames=17, text_length=TINY_TEXT_LENGTH, **_TINY),
    "cosmos_t2i_2b": _T2I,
    "cosmos_t2i_14b": _T2I,
    "cosmos_t2i_tiny": replace(_T2I, text_length=TINY_TEXT_LENGTH, **_TINY),
    # The published example for one GPU; the full size, for tensor parallelism 4, is 640x848.
    "cosmos_ar_4b": replace(_AR, height=384, width=640),
    "cosmos_ar_12b": _AR,
    "cosmos_ar_v2w_5b": replace(_AR, text_length=TEXT_LENGTH),
    "cosmos_ar_v2w_13b": replace(_AR, text_length=TEXT_LENGTH),
    "cosmos_ar_tiny": replace(_AR, num_frames=17, **_TINY),
    "cosmos_tokenizer_cv8x8x8": _TOKENIZER,
    "cosmos_tokenizer_dv8x16x16": _TOKENIZER,
    "cosmos_tokenizer_cv_tiny": replace(_TOKENIZER, num_frames=9),
    "cosmos_tokenizer_dv_tiny": replace(_TOKENIZER, num_frames=9),
}

FAMILIES: dict[str, str] = {  # what `data_prep shards --for` takes, and the recipe whose clips it then makes
    "v2w": "cosmos_v2w_2b",
    "t2i": "cosmos_t2i_2b",
    "ar": "cosmos_ar_4b",
    "tokenizer": "cosmos_tokenizer_cv8x8x8",
}


def clip_spec(recipe: str) -> ClipSpec:
    """The clips of a recipe; adapters train on what the whole network does.

    Raises:
        KeyError: there is no such recipe.
    """
    return CLIP_SPECS[recipe.removesuffix("_lora")]
