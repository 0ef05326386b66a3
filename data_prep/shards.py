"""A folder of videos and captions to an Energon dataset of latents and text embeddings."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cosmos_nemo.data.frames import VideoError, read_frames, read_image, resize
from cosmos_nemo.data.schema import (
    SCHEMA_VERSION,
    DiffusionSample,
    EncoderRef,
    Manifest,
    SampleInfo,
    to_parts,
    write_text_atomic,
)
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.base import VideoTokenizer, latent_frames
from cosmos_nemo.tokenizers.text import MAX_TOKENS, T5TextEncoder
from data_prep.output import (
    REPORT_NAME,
    Done,
    index_for_energon,
    put_in_place,
    read_done,
    tar_record,
    work_folder,
    write_done,
    write_tar,
)
from data_prep.plan import Chunk, Shard, plan_shards
from data_prep.scan import Clip, Scan, Verdict, file_sha256, scan_folder

LATENT_DTYPES = ("bfloat16", "float32")
TEMPORAL_COMPRESSION = 4  # of the Wan tokenizer
SIZE_MULTIPLE = 16  # the tokenizer's 8 pixels times the models' patch of 2


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """What to make. Every field except `max_bad`, `overwrite` and `device` changes the bytes that are written."""

    input: Path
    output: Path
    vae: Path
    text_encoder: Path
    num_frames: int
    height: int
    width: int
    val_fraction: float = 0.1
    chunks_per_video: int = 1
    samples_per_shard: int = 32
    seed: int = 0
    latent_dtype: str = "bfloat16"
    max_bad: float = 0.5  # largest share of the input that may be unusable
    overwrite: bool = False
    device: str = "auto"  # "auto", "cpu" or "cuda"
    threads: int = 1  # of torch on the CPU; other counts sum in another order

    def __post_init__(self) -> None:
        """Reject what can be told wrong without looking at any file."""
        latent_frames(self.num_frames, TEMPORAL_COMPRESSION)
        for name, value in (("--height", self.height), ("--width", self.width)):
            if value < SIZE_MULTIPLE or value % SIZE_MULTIPLE:
                below = max(value // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE
                raise UserError(
                    f"{name} {value} must be a multiple of {SIZE_MULTIPLE}; use {below} or {below + SIZE_MULTIPLE}"
                )
        if self.latent_dtype not in LATENT_DTYPES:
            raise UserError(f"--latent-dtype {self.latent_dtype} is none of {', '.join(LATENT_DTYPES)}")
        if not 0 <= self.max_bad <= 1:
            raise UserError(f"--max-bad {self.max_bad} must be between 0 and 1")
        if self.threads < 1:
            raise UserError(f"--threads {self.threads} must be at least 1")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device {self.device} is none of auto, cpu, cuda")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the input."""

    verdicts: tuple[Verdict, ...]  # one per stem of the input, sorted
    samples: dict[str, int]  # split -> samples

    def count(self, status: str) -> int:
        """Stems with this status."""
        return sum(verdict.status == status for verdict in self.verdicts)

    def to_json(self) -> str:
        """The text of report.json."""
        counts = {
            "input": len(self.verdicts),
            "matched": self.count("used") + self.count("skipped"),
            "unmatched": self.count("unmatched"),
            "used": self.count("used"),
            "skipped": self.count("skipped"),
        }
        body = {"counts": counts, "samples": self.samples, "verdicts": [asdict(v) for v in self.verdicts]}
        return json.dumps(body, indent=2, sort_keys=True) + "\n"


class Progress:
    """What a caller may want to hear about; the methods do nothing."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` steps begins."""

    def step(self, note: str) -> None:
        """One step is done."""

    def problem(self, report: Report) -> None:
        """The work stops because of this input; called before the error is raised."""


def make_shards(options: ShardOptions, *, progress: Progress | None = None) -> Report:
    """Prepare a dataset, or finish one that was interrupted.

    Raises:
        UserError: the input or an option is unusable; a complete dataset in the output folder stays as it was.
    """
    progress = progress or Progress()
    encoders = _Encoders(options, progress)
    scan = _scan(options, progress)
    shards = plan_shards(
        scan.clips,
        num_frames=options.num_frames,
        chunks_per_video=options.chunks_per_video,
        val_fraction=options.val_fraction,
        samples_per_shard=options.samples_per_shard,
        seed=options.seed,
    )
    refs = encoders.refs()
    settings = _settings(options, scan, refs)
    target = options.output
    options = replace(options, output=work_folder(target, settings, overwrite=options.overwrite))

    progress.stage("encoding", sum(len(shard.chunks) for shard in shards))
    records = []
    for shard in shards:
        done = read_done(options.output, shard.name)
        if done is None:
            with _cpu_threads(options.threads):
                done = _make_shard(shard, options, encoders, progress)
        else:
            for chunk in shard.chunks:
                progress.step(chunk.key)
        records.append(done)
    report = _report(scan, records)
    _check_bad(report, options, progress)
    _finish(options, settings, refs, records, report)
    put_in_place(options.output, target)
    return report


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Encoders:
    """The two encoders: their files are checked at once, their weights are loaded when first used."""

    def __init__(self, options: ShardOptions, progress: Progress) -> None:
        from cosmos_nemo.tokenizers.text import find_t5
        from cosmos_nemo.tokenizers.wan import find_wan

        self._options = options
        self._progress = progress
        self._files = {"vae": find_wan(options.vae), "text_encoder": find_t5(options.text_encoder)}
        self._loaded: tuple[VideoTokenizer, T5TextEncoder] | None = None

    def refs(self) -> dict[str, EncoderRef]:
        """Paths and hashes of the encoders."""
        paths = {"vae": self._options.vae, "text_encoder": self._options.text_encoder}
        return {
            name: EncoderRef(path=str(paths[name].expanduser().resolve()), sha256=file_sha256(*files))
            for name, files in self._files.items()
        }

    def load(self) -> tuple[VideoTokenizer, T5TextEncoder]:
        """Video tokenizer and text encoder."""
        if self._loaded is None:
            import torch

            from cosmos_nemo.tokenizers.text import load_t5
            from cosmos_nemo.tokenizers.wan import load_wan

            device = self._options.device
            if device == "cuda" and not torch.cuda.is_available():
                raise UserError("--device cuda: torch finds no CUDA device; use --device cpu")
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            vae = load_wan(self._options.vae, device=device)
            self._loaded = vae, load_t5(self._options.text_encoder, device=device)
        return self._loaded


def _scan(options: ShardOptions, progress: Progress) -> Scan:
    started = False

    def on_file(stem: str, done: int, total: int) -> None:
        nonlocal started
        if not started:
            progress.stage("looking at the input", total)
            started = True
        progress.step(stem)

    scan = scan_folder(options.input, num_frames=options.num_frames, on_file=on_file)
    _check_bad(_report(scan, []), options, progress)
    return scan


def _check_bad(report: Report, options: ShardOptions, progress: Progress) -> None:
    """Stop when too much of the input, or all of it, is unusable."""
    bad = len(report.verdicts) - report.count("used")
    first = next((f"{v.stem}: {v.reason}" for v in report.verdicts if v.status != "used"), "")
    if not report.count("used"):
        progress.problem(report)
        raise UserError(f"none of {len(report.verdicts)} inputs in {options.input} can be used; {first}")
    if bad > options.max_bad * len(report.verdicts):
        progress.problem(report)
        raise UserError(
            f"{bad} of {len(report.verdicts)} inputs in {options.input} cannot be used ({first}); "
            f"mend them or allow more with --max-bad (now {options.max_bad})"
        )


def _settings(options: ShardOptions, scan: Scan, encoders: dict[str, EncoderRef]) -> dict[str, Any]:
    """Everything that determines the bytes of the dataset."""
    names = (
        "num_frames",
        "height",
        "width",
        "val_fraction",
        "chunks_per_video",
        "samples_per_shard",
        "seed",
        "threads",
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "latent_dtype": options.latent_dtype,
        **{name: getattr(options, name) for name in names},
        **{name: asdict(ref) for name, ref in encoders.items()},
        "input files": scan.hashes,
    }


def _make_shard(shard: Shard, options: ShardOptions, encoders: _Encoders, progress: Progress) -> Done:
    """Encode and write one shard. A clip that turns out to be broken is left out and noted."""
    vae, text_encoder = encoders.load()
    used: Counter[str] = Counter()
    rates: set[float] = set()
    shape: tuple[int, ...] | None = None
    bad: dict[str, str] = {}
    embeddings = text_encoder.encode([chunk.clip.caption for chunk in shard.chunks])

    def members() -> Iterator[tuple[str, bytes]]:
        nonlocal shape
        for chunk, text in zip(shard.chunks, embeddings, strict=True):
            try:
                sample = encode_chunk(chunk, options, vae, text)
            except VideoError as error:
                bad[chunk.clip.stem] = f"{chunk.clip.source}: {error}"
            else:
                used[chunk.clip.stem] += 1
                rates.add(sample.info.fps)
                shape = tuple(sample.latent_C_T_H_W.shape)
                for part, content in to_parts(sample).items():
                    yield f"{sample.key}.{part}", content
            progress.step(chunk.key)

    file = options.output / shard.name
    write_tar(file, members())
    done = Done(
        shard=tar_record(file, split=shard.split, samples=used.total()),
        latent_shape=shape,
        text_width=text_encoder.width,
        fps=tuple(sorted(rates)),
        used=dict(used),
        bad=bad,
    )
    write_done(options.output, done)
    return done


def encode_chunk(chunk: Chunk, options: ShardOptions, vae: VideoTokenizer, text_L_E: Any) -> DiffusionSample:
    """Read one window of a video, and encode it.

    Raises:
        VideoError: it cannot be decoded.
    """
    import torch

    clip, size = chunk.clip, (options.height, options.width)
    if clip.probe is None:
        pixels_3_T_H_W = resize(read_image(clip.path), size)[:, None]
    else:
        pixels_3_T_H_W = read_frames(clip.path, clip.probe, start=chunk.start, num_frames=options.num_frames, size=size)
    latent_1_C_T_H_W = vae.encode(pixels_3_T_H_W[None].float() / 127.5 - 1)
    return DiffusionSample(
        key=chunk.key,
        latent_C_T_H_W=latent_1_C_T_H_W[0].to(getattr(torch, options.latent_dtype)),
        text_L_E=text_L_E,
        info=_info(clip, chunk, options),
    )


def _info(clip: Clip, chunk: Chunk, options: ShardOptions) -> SampleInfo:
    image = options.num_frames == 1
    return SampleInfo(
        kind="image" if image else "video",
        source=clip.source,
        caption=clip.caption,
        start_frame=chunk.start,
        num_frames=options.num_frames,
        fps=0.0 if image or clip.probe is None else clip.probe.fps,
        height=options.height,
        width=options.width,
        source_height=clip.height,
        source_width=clip.width,
        source_num_frames=clip.num_frames,
    )


def _report(scan: Scan, records: list[Done]) -> Report:
    """Verdicts of scan and encoding together; before encoding, every clip that passed the scan counts as used."""
    bad = {stem: reason for done in records for stem, reason in done.bad.items()}
    used = Counter[str]()
    for done in records:
        used.update(done.used)
    verdicts = list(scan.verdicts)
    for clip in scan.clips:
        if records and not used[clip.stem]:
            verdicts.append(Verdict(stem=clip.stem, status="skipped", reason=bad.get(clip.stem, "")))
        else:
            # Some windows of a damaged video may be good.
            verdicts.append(Verdict(stem=clip.stem, status="used", reason=bad.get(clip.stem, "")))
    samples = {split: sum(d.shard.samples for d in records if d.shard.split == split) for split in ("train", "val")}
    return Report(verdicts=tuple(sorted(verdicts, key=lambda v: v.stem)), samples=samples)


def _finish(
    options: ShardOptions,
    settings: dict[str, Any],
    encoders: dict[str, EncoderRef],
    records: list[Done],
    report: Report,
) -> None:
    """Write report, index and manifest, in this order, unless they are there already."""
    filled = [done for done in records if done.shard.samples]
    shards = [done.shard for done in filled]
    rates = sorted({rate for done in filled for rate in done.fps})
    assert len({done.latent_shape for done in filled}) == 1, "all clips are resized to one size and cut to one length"
    channels, frames, height, width = filled[0].latent_shape or (0, 0, 0, 0)
    manifest = Manifest(
        task="text2image" if options.num_frames == 1 else "video2world",
        num_frames=options.num_frames,
        height=options.height,
        width=options.width,
        fps=rates[0] if len(rates) == 1 else None,
        latent_shape=(channels, frames, height, width),
        latent_dtype=options.latent_dtype,
        text_width=filled[0].text_width,
        text_length=MAX_TOKENS,
        video_tokenizer=encoders["vae"],
        text_encoder=encoders["text_encoder"],
        seed=options.seed,
        shards=tuple(shards),
        options={k: v for k, v in settings.items() if k not in ("input files", "vae", "text_encoder")},
        sources=settings["input files"],
    )
    written = options.output / "manifest.json"
    if written.is_file() and written.read_text(encoding="utf-8") == manifest.to_json():
        if (options.output / ".nv-meta" / ".info.json").is_file():
            return
    written.unlink(missing_ok=True)
    write_text_atomic(options.output / REPORT_NAME, report.to_json())
    index_for_energon(options.output, shards)
    manifest.write(options.output)
