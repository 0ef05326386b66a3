"""Make shards, the unit of work, in this process or in several new ones."""

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosmos_nemo.data.schema import DiffusionSample, TokenSample
from cosmos_nemo.errors import UserError
from cosmos_nemo.media.pictures import VideoError
from data_prep.datasets.files import tar_record, write_tar
from data_prep.making.encoders import Encoders
from data_prep.making.options import ShardOptions
from data_prep.making.output import Done, write_done
from data_prep.making.plan import Shard
from data_prep.making.report import Progress
from data_prep.making.samples import SampleMaker

LISTEN_SECONDS = 0.2  # between looks at the workers' progress


def make_all(shards: Sequence[Shard], options: ShardOptions, encoders: Encoders, progress: Progress) -> None:
    """Make shards and their records. The result does not depend on the number of workers.

    Raises:
        UserError: from a worker, or when one died.
    """
    if options.workers == 1 or len(shards) < 2:
        for shard in shards:
            make_shard(shard, options, encoders, progress)
        return
    # Started afresh, not forked: CUDA and the threads of the libraries do not survive a fork.
    context = multiprocessing.get_context("spawn")
    notes, turn = context.SimpleQueue(), context.Value("i", 0)
    workers = min(options.workers, len(shards))
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(options, notes, turn))
    try:
        pending: set[Future[None]] = {pool.submit(_make_in_worker, shard) for shard in shards}
        while pending:
            done, pending = wait(pending, timeout=LISTEN_SECONDS, return_when=FIRST_COMPLETED)
            while not notes.empty():
                progress.step(notes.get())
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise UserError(
            f"a worker process died, perhaps for lack of memory; use fewer --workers (now {options.workers}) and run "
            "the command again to continue"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: dict[str, Any] = {}  # what a worker process was started with


def _start(options: ShardOptions, notes: Any, turn: Any) -> None:
    """Prepare a worker process."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)  # nobody waits for the result any more

    threading.Thread(target=follow, daemon=True).start()
    with turn.get_lock():
        place, turn.value = turn.value, turn.value + 1
    _worker.update(options=options, encoders=Encoders(options, device=_device(options.device, place)), notes=notes)


def _device(device: str, place: int) -> str:
    """Return the GPU of a worker: they are dealt out in turn."""
    if device == "cpu":
        return device
    import torch

    return f"cuda:{place % torch.cuda.device_count()}" if torch.cuda.is_available() else device


def _make_in_worker(shard: Shard) -> None:
    class Notes(Progress):
        def step(self, note: str) -> None:
            _worker["notes"].put(note)

    make_shard(shard, _worker["options"], _worker["encoders"], Notes())


def make_shard(shard: Shard, options: ShardOptions, encoders: Encoders, progress: Progress) -> Done:
    """Encode and write one shard and its record. A clip that turns out to be damaged is skipped and noted."""
    file = options.output / shard.name
    scratch = file.with_name(f"{file.name}.media.tmp")
    maker = SampleMaker(options, encoders, scratch)
    found = _Findings()
    try:
        with cpu_threads(options.threads):
            write_tar(file, _members(shard, maker, found, progress))
    finally:
        scratch.unlink(missing_ok=True)
    done = Done(
        shard=tar_record(file, split=shard.split, samples=found.used.total()),
        shapes=tuple(sorted(found.shapes)),
        sizes=tuple(sorted(found.sizes)),
        text_width=found.text_width,
        vocab_size=encoders.video_tokenizer().vocab_size if options.kind == "tokens" else None,
        fps=tuple(sorted(found.rates)),
        used=dict(found.used),
        bad=found.bad,
    )
    write_done(options.output, done)
    return done


class _Findings:
    """Facts about a shard that are found while it is made."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        self.bad: dict[str, str] = {}
        self.rates: set[float] = set()
        self.shapes: set[tuple[int, ...]] = set()
        self.sizes: set[tuple[int, ...]] = set()
        self.text_width: int | None = None

    def note(self, stem: str, sample: Any) -> None:
        """Note a sample that was made."""
        self.used[stem] += 1
        info = sample.info
        self.rates.add(info.fps)
        self.sizes.add((info.num_frames, info.height, info.width))
        if isinstance(sample, DiffusionSample):
            self.shapes.add(tuple(sample.latent_C_T_H_W.shape))
        elif isinstance(sample, TokenSample):
            self.shapes.add(tuple(sample.tokens_T_H_W.shape))
        if sample.text_L_E is not None:
            width = sample.text_L_E.shape[1]
            if self.text_width not in (None, width):
                raise UserError(
                    f"text embeddings have widths {self.text_width} and {width}: that of {info.source} comes from "
                    "another text encoder; make all of them with one"
                )
            self.text_width = width


def _members(
    shard: Shard, maker: SampleMaker, found: _Findings, progress: Progress
) -> Iterator[tuple[str, bytes | Path]]:
    for chunk, text in zip(shard.chunks, maker.texts(shard.chunks), strict=True):
        try:
            sample = maker.make(chunk, text)
        except VideoError as error:
            found.bad[chunk.clip.stem] = f"{chunk.clip.source}: {error}"
        else:
            found.note(chunk.clip.stem, sample)
            for part, content in sorted(maker.parts(chunk, sample).items()):
                yield f"{sample.key}.{part}", content
        progress.step(chunk.key)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Limit torch to this number of threads in this process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
