"""Turn a folder of videos into an Energon dataset: latents, token ids, or the videos themselves."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from cosmos_nemo.data.manifest import MANIFEST_NAME, Manifest
from cosmos_nemo.data.schema import SCHEMA_VERSION
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import write_text
from cosmos_nemo.tokenizers.text import MAX_TOKENS
from data_prep.datasets.files import REPORT_NAME, index_for_energon
from data_prep.making.encoders import Encoders
from data_prep.making.options import ShardOptions
from data_prep.making.output import Done, put_in_place, read_done, work_folder
from data_prep.making.plan import Shard, plan_shards
from data_prep.making.ranks import Ranks, join_ranks
from data_prep.making.report import Progress, Report
from data_prep.making.scan import Scan, Verdict, Wanted, scan_folder
from data_prep.making.workers import make_all


def make_shards(options: ShardOptions, *, progress: Progress | None = None) -> Report:
    """Make a dataset, or finish one that was interrupted. Under torchrun, the ranks share the work.

    Raises:
        UserError: the input or an option is unusable; a complete dataset in the output folder stays as it was.
    """
    with join_ranks() as ranks:
        return _make_shards(options, progress if progress and ranks.leads else Progress(), ranks)


def _make_shards(options: ShardOptions, progress: Progress, ranks: Ranks) -> Report:
    encoders = Encoders(options, device=ranks.device(options.device))
    target = options.output
    scan, shards, output = ranks.share(_plan(options, encoders, progress) if ranks.leads else None)
    options = replace(options, output=output)
    progress.stage("encoding", sum(len(shard.chunks) for shard in shards))
    _make_missing(shards[ranks.rank :: ranks.size], options, encoders, progress)
    ranks.wait()
    records = [_record(options.output, shard) for shard in shards]
    report = _report(scan, records)
    if ranks.leads:
        _check_bad(report, options, progress)
        _finish(options, encoders, scan, records, report)
        put_in_place(options.output, target)
    ranks.wait()
    return report


def _plan(options: ShardOptions, encoders: Encoders, progress: Progress) -> tuple[Scan, tuple[Shard, ...], Path]:
    """Look at the input, decide what goes where, and take the output folder."""
    scan = _scan(options, progress)
    shards = plan_shards(
        scan.clips,
        num_frames=None if options.whole_videos else options.num_frames,
        chunks_per_video=options.chunks_per_video,
        val_fraction=options.val_fraction,
        samples_per_shard=options.samples_per_shard,
        seed=options.seed,
        numbered=options.task == "tokenizer",
    )
    if options.kind != "video" and not all(read_done(options.output, shard.name) for shard in shards):
        encoders.video_tokenizer()  # if it does not suit, that shows before the folder is taken
    output = work_folder(options.output, _settings(options, encoders, scan), overwrite=options.overwrite)
    return scan, shards, output


def _make_missing(shards: tuple[Shard, ...], options: ShardOptions, encoders: Encoders, progress: Progress) -> None:
    missing = []
    for shard in shards:
        if read_done(options.output, shard.name) is None:
            missing.append(shard)
            continue
        for chunk in shard.chunks:
            progress.step(chunk.key)
    make_all(missing, options, encoders, progress)


def _record(folder: Path, shard: Shard) -> Done:
    done = read_done(folder, shard.name)
    if done is None:
        raise UserError(f"shard {folder / shard.name} disappeared while the others were made; run the command again")
    return done


def _scan(options: ShardOptions, progress: Progress) -> Scan:
    started = False

    def on_file(stem: str, done: int, total: int) -> None:
        nonlocal started
        if not started:
            progress.stage("looking at the input", total)
            started = True
        progress.step(stem)

    wanted = Wanted(
        num_frames=options.num_frames,
        fps=options.fps,
        images=options.num_frames == 1,
        captions=options.captions,
        embeddings=options.text_source == "t5_xxl",
    )
    scan = scan_folder(options.input, wanted, on_file=on_file)
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
            f"repair or remove them, or allow more with --max-bad (now {options.max_bad})"
        )


def _settings(options: ShardOptions, encoders: Encoders, scan: Scan) -> dict[str, Any]:
    """Collect everything that determines the bytes of the dataset."""
    return {
        "schema_version": SCHEMA_VERSION,
        **options.settings(),
        **encoders.settings(),
        "input files": scan.hashes,
    }


def _report(scan: Scan, records: list[Done]) -> Report:
    """Join the verdicts of scan and encoding; before encoding, every clip that passed the scan counts as used."""
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


def _finish(options: ShardOptions, encoders: Encoders, scan: Scan, records: list[Done], report: Report) -> None:
    """Write report, index and manifest, in this order, unless they are there already."""
    filled = [done for done in records if done.shard.samples]
    shards = [done.shard for done in filled]
    manifest = _manifest(options, encoders, scan, filled)
    written = options.output / MANIFEST_NAME
    if written.is_file() and written.read_text(encoding="utf-8") == manifest.to_json():
        if (options.output / ".nv-meta" / ".info.json").is_file():
            return
    written.unlink(missing_ok=True)
    write_text(options.output / REPORT_NAME, report.to_json())
    index_for_energon(options.output, shards)
    manifest.write(options.output)


def _manifest(options: ShardOptions, encoders: Encoders, scan: Scan, filled: list[Done]) -> Manifest:
    shapes = {shape for done in filled for shape in done.shapes}
    widths = {done.text_width for done in filled} - {None}
    assert len(shapes) <= 1, "all clips are resized to one size and cut to one length"
    if len(widths) > 1:
        raise UserError(f"the text embeddings have widths {sorted(w for w in widths if w)}; make all with one encoder")
    sizes = zip(*(size for done in filled for size in done.sizes), strict=True)
    num_frames, height, width = (_common(values) for values in sizes)
    shape: Any = next(iter(shapes), None)
    return Manifest(
        task=options.task,
        kind=options.kind,
        num_frames=num_frames,
        height=height,
        width=width,
        fps=_common([rate for done in filled for rate in done.fps]),
        latent_shape=shape if options.kind == "latent" else None,
        latent_dtype=options.latent_dtype if options.kind == "latent" else None,
        token_shape=shape if options.kind == "tokens" else None,
        vocab_size=next((done.vocab_size for done in filled), None),
        text_width=next(iter(widths), None),
        text_length=MAX_TOKENS if widths else None,
        video_tokenizer=encoders.refs.get("video_tokenizer"),
        text_encoder=encoders.refs.get("text_encoder"),
        seed=options.seed,
        shards=tuple(done.shard for done in filled),
        options=options.settings(),
        sources=scan.hashes,
    )


def _common(values: Any) -> Any:
    """Return the value that all have in common, or None."""
    different = set(values)
    return different.pop() if len(different) == 1 else None
