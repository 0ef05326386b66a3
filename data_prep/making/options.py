"""Options of `data_prep shards`, and their defaults for a recipe."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cosmos_nemo.data.clip_specs import FAMILIES, ClipSpec, clip_spec
from cosmos_nemo.errors import UserError
from cosmos_nemo.media.fit import FITS, Fit
from cosmos_nemo.tokenizers.base import latent_frames

LATENT_DTYPES = ("bfloat16", "float32")
MP4_MODES = ("copy", "remux", "encode")
SMALLEST_TEMPORAL_COMPRESSION = 4  # of the Wan tokenizer; the loaded one is asked again
NOT_IN_BYTES = ("input", "output", "video_tokenizer", "text_encoder", "max_bad", "overwrite", "device", "workers")
"""Options that do not change the bytes of a dataset, and the paths, whose contents are recorded instead."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """Choices of a preparation. Every field that is not in `NOT_IN_BYTES` changes the bytes that are written."""

    input: Path
    """Folder with videos/NAME.mp4 (or NAME.mp4) and metas/NAME.txt."""
    output: Path
    """Folder for the dataset; an interrupted one is completed."""
    task: str = "video2world"
    """Task of the manifest."""
    kind: str = "latent"
    """Kind of the manifest: latent, tokens or video."""
    video_tokenizer: Path | None = None
    """For latents: Wan (diffusers folder, tokenizer.pth) or a CV folder; for token ids: a DV folder."""
    text_encoder: Path | None = None
    """T5 encoder folder, such as a local t5-11b; if omitted, t5_xxl/*.pickle are used."""
    num_frames: int
    """Frames per sample; of raw video, the fewest that are of use."""
    height: int | None
    """Height in pixels."""
    width: int | None
    """Width in pixels."""
    fit: Fit = "stretch"
    """Stretch frames to the size, or cover it and crop the centre."""
    size_multiple: int = 16
    """Number of pixels that divides height and width."""
    captions: bool = True
    """Whether a video without a caption is of no use."""
    fps: float | None = None
    """Pick frames for this frame rate; if omitted, every frame of a video is taken."""
    val_fraction: float = 0.1
    """Share of the videos held out for validation."""
    chunks_per_video: int = 1
    """Windows drawn from each video."""
    samples_per_shard: int = 32
    """Samples per tar file, the unit of work and of resuming."""
    seed: int = 0
    """Seed of windows and split."""
    latent_dtype: str = "bfloat16"
    """Number format of latents: bfloat16 or float32."""
    mp4: str = "copy"
    """Raw video: copy the file, remux its video stream, or encode its frames again."""
    cut: bool = False
    """Raw video, with --mp4 encode: windows of --num-frames instead of whole videos."""
    max_bad: float = 0.5
    """Share of the input that may be unusable before that is an error."""
    overwrite: bool = False
    """Replace a dataset made with other settings."""
    device: str = "auto"
    """Where the encoders run: auto, cpu or cuda."""
    threads: int = 1
    """CPU threads per process; another number may change the last bits, as sums are added in another order."""
    workers: int = 1
    """Processes, each with its own encoders; the bytes do not depend on their number."""

    def __post_init__(self) -> None:
        """Reject what is wrong whatever the files hold."""
        if self.kind == "video" and self.num_frames < 1:
            raise UserError(f"--num-frames {self.num_frames} must be at least 1")
        if self.kind != "video":
            latent_frames(self.num_frames, SMALLEST_TEMPORAL_COMPRESSION)
        self._check_size()
        for name, value, words in (
            ("--fit", self.fit, FITS),
            ("--latent-dtype", self.latent_dtype, LATENT_DTYPES),
            ("--mp4", self.mp4, MP4_MODES),
            ("--device", self.device, ("auto", "cpu", "cuda")),
        ):
            if value not in words:
                raise UserError(f"{name} {value} is unknown; use one of {', '.join(words)}")
        if not 0 <= self.max_bad <= 1:
            raise UserError(f"--max-bad {self.max_bad} must be between 0 and 1")
        for name, count in (("--threads", self.threads), ("--workers", self.workers)):
            if count < 1:
                raise UserError(f"{name} {count} must be at least 1")
        if self.fps is not None and self.fps <= 0:
            raise UserError(f"--fps {self.fps} must be positive")
        self._check_raw()
        if self.kind != "video" and self.video_tokenizer is None:
            raise UserError(
                "--video-tokenizer is missing; it makes the latents or token ids. Or keep the videos with --raw"
            )
        if self.kind != "video" and self.captions and self.text_source is None:
            raise UserError(
                f"--text-encoder is missing; without it, embeddings in {self.input}/t5_xxl are needed "
                "(`python -m data_prep t5` makes them)"
            )

    def _check_size(self) -> None:
        if (self.height is None) != (self.width is None):
            raise UserError("give both --height and --width, or neither")
        if self.height is None and self.kind != "video":
            raise UserError("--height and --width are missing; all samples get this size")
        multiple = 2 if self.kind == "video" else self.size_multiple  # H.264 stores colours at half the size
        for name, value in (("--height", self.height), ("--width", self.width)):
            if value is not None and (value < multiple or value % multiple):
                below = max(value // multiple, 1) * multiple
                raise UserError(f"{name} {value} must be a multiple of {multiple}; use {below} or {below + multiple}")

    def _check_raw(self) -> None:
        if self.kind != "video":
            return
        needs_encoding = [
            name
            for name, given in (("--height and --width", self.height), ("--fps", self.fps), ("--cut", self.cut))
            if given
        ]
        if self.mp4 != "encode" and needs_encoding:
            raise UserError(f"{needs_encoding[0]} changes raw video, which needs --mp4 encode (now --mp4 {self.mp4})")
        if self.chunks_per_video > 1 and not self.cut:
            raise UserError(
                "--chunks-per-video: a whole video is one sample; add --mp4 encode --cut for windows of videos"
            )

    @property
    def text_source(self) -> str | None:
        """Where text embeddings come from: "encoder", the input's "t5_xxl" folder, or nowhere."""
        if not self.captions:
            return None
        if self.text_encoder is not None:
            return "encoder"
        return "t5_xxl" if (self.input / "t5_xxl").is_dir() else None

    @property
    def whole_videos(self) -> bool:
        """Whether a sample is a whole file."""
        return self.kind == "video" and not self.cut

    def settings(self) -> dict[str, Any]:
        """Return what determines the bytes of the dataset, apart from the contents of files."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NOT_IN_BYTES}
        return chosen | {"text_source": self.text_source}


def options_for(family: str | None, recipe: str | None, *, raw: bool = False, **given: Any) -> ShardOptions:
    """Return options in which a recipe decides about what the user has omitted (None).

    Args:
        family: v2w, t2i, ar or tokenizer; None is the recipe's.
        recipe: name of a recipe; None is the usual one of the family.
        raw: keep videos as they are, to be encoded in training.
        given: fields of `ShardOptions`.

    Raises:
        UserError: there is no such family or recipe, or the options are wrong.
    """
    spec = _spec(family, recipe)
    defaults: dict[str, Any] = {
        name: getattr(spec, name) for name in ("task", "kind", "num_frames", "height", "width", "fit", "size_multiple")
    }
    defaults["captions"] = spec.text_length is not None or given.get("text_encoder") is not None
    if raw:
        # Sizes are then training's concern, unless they are asked for here.
        defaults |= {"kind": "video", "height": None, "width": None}
    fields_ = defaults | {name: value for name, value in given.items() if value is not None}
    if fields_["task"] == "video2world" and fields_["num_frames"] == 1:
        fields_["task"] = "text2image"
    return ShardOptions(**fields_)


def _spec(family: str | None, recipe: str | None) -> ClipSpec:
    if family is not None and family not in FAMILIES:
        raise UserError(f"--for {family} is unknown; use one of {', '.join(FAMILIES)}")
    name = recipe or FAMILIES[family or "v2w"]
    try:
        spec = clip_spec(name)
    except KeyError:
        raise UserError(f"--recipe {name}: no such recipe; `cosmos-nemo recipes` lists them") from None
    if family is not None and spec.task != clip_spec(FAMILIES[family]).task:
        raise UserError(f"--recipe {name} is for the task {spec.task}, which is not --for {family}; omit one of them")
    return spec
