"""The kinds of samples in a shard, as bytes and back.

A sample is a few members of a tar file that share a key: ``KEY.json`` says what it is, arrays are safetensors, never
pickles, videos and pictures are the files themselves.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)  # version 1 had diffusion samples only, which are what they were

INFO_PART = "json"
LATENT_PART = "latent.safetensors"
TEXT_PART = "text.safetensors"
TOKENS_PART = "tokens.safetensors"
MEDIA_PARTS = ("mp4", "jpg", "jpeg", "png")  # the first one found is the sample's


class SampleError(ValueError):
    """A sample that cannot be read: it is skipped and counted, and the run goes on.

    Args:
        message: names the sample, and says what is wrong.
        part: in which part; "" if that is not known.
    """

    def __init__(self, message: str, *, part: str = "") -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, kw_only=True)
class SampleInfo:
    """Where a sample comes from and what was done to it."""

    kind: str  # "video" or "image"; an image has one frame
    source: str  # file name below the input folder, for example videos/robot.mp4
    caption: str  # "" where the task needs none
    start_frame: int  # index of the first frame in the source
    num_frames: int  # pixel frames of the sample
    fps: float  # frames per second of the source; 0 for a still image
    height: int  # pixels after resizing
    width: int
    source_height: int  # pixels before resizing
    source_width: int
    source_num_frames: int
    extra: dict[str, Any] = field(default_factory=dict)  # "bucket", and control signals of later tasks


@dataclass(frozen=True, kw_only=True)
class DiffusionSample:
    """One clip as the diffusion models see it."""

    key: str  # unique in the dataset, without dots
    latent_C_T_H_W: Tensor  # normalised latent, bfloat16 unless prepared otherwise
    text_L_E: Tensor  # text embedding trimmed to the true token count, bfloat16
    info: SampleInfo


@dataclass(frozen=True, kw_only=True)
class TokenSample:
    """One clip as the autoregressive models see it."""

    key: str
    tokens_T_H_W: Tensor  # ids of a discrete video tokenizer, int32
    text_L_E: Tensor | None = None  # for the models that read text
    info: SampleInfo


@dataclass(frozen=True, kw_only=True)
class VideoSample:
    """One video or picture file. Tars that hold nothing but ``1.mp4 2.mp4 ...`` are samples of this kind."""

    key: str
    media: bytes  # the file as it is
    media_part: str = "mp4"  # one of `MEDIA_PARTS`
    text_L_E: Tensor | None = None
    info: SampleInfo | None = None

    @property
    def caption(self) -> str:
        """What is said about it; "" if nothing is."""
        return "" if self.info is None else self.info.caption


AnySample: TypeAlias = DiffusionSample | TokenSample | VideoSample
SampleT = TypeVar("SampleT", bound=AnySample)

SAMPLE_TYPES: dict[str, type[AnySample]] = {"latent": DiffusionSample, "tokens": TokenSample, "video": VideoSample}


def sample_id(key: str) -> int:
    """A number for `key` that is the same everywhere and always.

    Returns: an integer in [0, 2**63), so that it fits an int64 tensor.
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def to_parts(sample: AnySample) -> dict[str, bytes]:
    """Serialise a sample. Equal samples give equal bytes.

    Returns: part name (what follows the first dot of the tar member) -> content, sorted by name.
    """
    parts: dict[str, bytes] = {}
    if sample.info is not None:
        info = {"schema_version": SCHEMA_VERSION, **asdict(sample.info)}
        parts[INFO_PART] = json.dumps(info, sort_keys=True, ensure_ascii=True).encode()
    if isinstance(sample, DiffusionSample):
        parts[LATENT_PART] = save({"latent": sample.latent_C_T_H_W.contiguous()})
    elif isinstance(sample, TokenSample):
        parts[TOKENS_PART] = save({"tokens": sample.tokens_T_H_W.contiguous()})
    else:
        parts[sample.media_part] = sample.media
    if sample.text_L_E is not None:
        parts[TEXT_PART] = save({"text": sample.text_L_E.contiguous()})
    return dict(sorted(parts.items()))


def from_parts(
    key: str,
    parts: Mapping[str, bytes],
    sample_type: type[SampleT] = DiffusionSample,  # type: ignore[assignment]  # a default cannot bind SampleT
) -> SampleT:
    """Read back what `to_parts` wrote.

    Args:
        key: the sample's key.
        parts: at least the parts that the kind of sample must have; others are ignored.
        sample_type: the kind of sample expected.

    Raises:
        SampleError: a part is missing, unreadable, of another schema version, of a wrong rank or dtype, or not finite.
    """
    return _READERS[sample_type](key, parts)


def _read_diffusion(key: str, parts: Mapping[str, bytes]) -> DiffusionSample:
    return DiffusionSample(
        key=key,
        info=_read_info(key, parts),
        latent_C_T_H_W=_read_tensor(key, parts, LATENT_PART, "latent", rank=4),
        text_L_E=_read_tensor(key, parts, TEXT_PART, "text", rank=2),
    )


def _read_tokens(key: str, parts: Mapping[str, bytes]) -> TokenSample:
    info = _read_info(key, parts)
    tokens = _read_tensor(key, parts, TOKENS_PART, "tokens", rank=3)
    if tokens.dtype != torch.int32:
        raise SampleError(
            f"sample {key!r}: part {TOKENS_PART!r} holds {tokens.dtype}, int32 expected", part=TOKENS_PART
        )
    return TokenSample(key=key, tokens_T_H_W=tokens, text_L_E=_optional_text(key, parts), info=info)


def _read_video(key: str, parts: Mapping[str, bytes]) -> VideoSample:
    part = next((part for part in MEDIA_PARTS if part in parts), None)
    if part is None:
        raise SampleError(f"sample {key!r} has none of the parts {', '.join(MEDIA_PARTS)}", part=MEDIA_PARTS[0])
    if not parts[part]:
        raise SampleError(f"sample {key!r}: part {part!r} is empty", part=part)
    info = _read_info(key, parts) if INFO_PART in parts else None
    return VideoSample(key=key, media=parts[part], media_part=part, text_L_E=_optional_text(key, parts), info=info)


def _optional_text(key: str, parts: Mapping[str, bytes]) -> Tensor | None:
    return _read_tensor(key, parts, TEXT_PART, "text", rank=2) if TEXT_PART in parts else None


def _part(key: str, parts: Mapping[str, bytes], name: str) -> bytes:
    if name not in parts:
        raise SampleError(f"sample {key!r} has no part {name!r}", part=name)
    return parts[name]


def _read_info(key: str, parts: Mapping[str, bytes]) -> SampleInfo:
    try:
        raw = json.loads(_part(key, parts, INFO_PART))
        version = raw.pop("schema_version", None)
        if version not in READABLE_VERSIONS:
            raise SampleError(
                f"sample {key!r} has schema version {version}; this program reads {SCHEMA_VERSION}", part=INFO_PART
            )
        known = {f.name for f in fields(SampleInfo)}
        return SampleInfo(**{name: value for name, value in raw.items() if name in known})
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise SampleError(f"sample {key!r}: part {INFO_PART!r} cannot be read: {error}", part=INFO_PART) from error


def _read_tensor(key: str, parts: Mapping[str, bytes], part: str, name: str, *, rank: int) -> Tensor:
    try:
        tensors = load(_part(key, parts, part))
    except (SafetensorError, ValueError, RuntimeError) as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"sample {key!r}: part {part!r} cannot be read: {error}", part=part) from error
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != rank:
        found = "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
        raise SampleError(
            f"sample {key!r}: part {part!r} must hold {name!r} with {rank} axes, found {found}", part=part
        )
    if not bool(torch.isfinite(tensor).all()):
        raise SampleError(f"sample {key!r}: part {part!r} holds values that are not finite", part=part)
    return tensor


_READERS: dict[type, Callable[[str, Mapping[str, bytes]], Any]] = {
    DiffusionSample: _read_diffusion,
    TokenSample: _read_tokens,
    VideoSample: _read_video,
}
