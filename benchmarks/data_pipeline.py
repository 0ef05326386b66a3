"""CPU-seconds of preparing and reading data, beside the limits and beside the published folder dataset. Prints JSON.

    python -m benchmarks.data_pipeline [--videos FOLDER] [--repeats 5] [--output benchmarks/results/data_pipeline.json]

CPU time (user and system, child processes included) can be compared on a busy machine; wall time is given where more
workers are to be faster. Every measurement is a process of its own, so that peak memory is its own too; the kinds of
measurements take turns, and medians are reported. `--decord FOLDER` is put on the peer's path: a place where
`pip install --target FOLDER --no-deps decord==0.6.0` went.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

NUM_FRAMES = 93
SIZE = (704, 1280)
CLIP_FRAMES = 240
CLIP_SIZE = (720, 1280)
LATENT_SHAPE = (16, 24, 88, 160)  # what 93 frames of this size become
NUM_LATENTS = 16
PARTS = ["rates", "scaling", "memory"]
LONG = 4  # times as long: a video, or an epoch, whose memory is compared


def cpu_seconds() -> float:
    """CPU time of this process and of the child processes it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


# Measurements. Each yields a function that does one sample (or one clip), after what is not measured is done.


def prepare(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """Ours: a random chunk of a long-GOP video, decoded and resized, as uint8."""
    from cosmos_nemo.media.frames import read_frames
    from cosmos_nemo.media.probe import probe_video

    clips = clips_of(folder)

    def sample(index: int) -> None:
        path = clips[index % len(clips)]
        video = read_frames(path, probe_video(path), start=start_of(index), num_frames=NUM_FRAMES, size=SIZE)
        assert video.shape == (3, NUM_FRAMES, *SIZE)

    yield sample


def prepare_normalised(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """Ours, and then normalised to float32 in [-1, 1], 1 GB of it. The peer leaves that to the GPU."""
    from cosmos_nemo.media.frames import read_frames
    from cosmos_nemo.media.pictures import to_unit
    from cosmos_nemo.media.probe import probe_video

    clips = clips_of(folder)

    def sample(index: int) -> None:
        path = clips[index % len(clips)]
        video = read_frames(path, probe_video(path), start=start_of(index), num_frames=NUM_FRAMES, size=SIZE)
        assert to_unit(video).dtype.itemsize == 4

    yield sample


def folder_dataset(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """The peer: the same chunk as uint8, and its text embedding."""
    from benchmarks.folder_dataset import FolderDataset

    dataset = FolderDataset(folder, num_frames=NUM_FRAMES, size=SIZE)

    def sample(index: int) -> None:
        assert dataset.get(index, start_of(index))["video"].shape == (3, NUM_FRAMES, *SIZE)

    yield sample


def decode(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """Ours, decoding alone: every frame of a clip through the exact reader, in the decoder's own pixel format."""
    from cosmos_nemo.media import frames

    clips = clips_of(folder)

    def clip(index: int) -> None:
        path = clips[index % len(clips)]
        probe = frames.probe_video(path)
        assert sum(1 for _ in frames._decode(path, probe, range(CLIP_FRAMES))) == CLIP_FRAMES

    yield clip


def ffmpeg(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """The limit: `ffmpeg -f null -` with one thread."""
    import imageio_ffmpeg

    clips = clips_of(folder)
    program = imageio_ffmpeg.get_ffmpeg_exe()

    def clip(index: int) -> None:
        command = [program, "-v", "error", "-threads", "1", "-i", str(clips[index % len(clips)]), "-f", "null", "-"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    yield clip


def energon_latents(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """Ours, training from latents: batches of one through Energon."""
    from cosmos_nemo.data import loader
    from cosmos_nemo.data.latents import DiffusionTaskEncoder

    batches = iter(loader.train_loader(folder / "latents", DiffusionTaskEncoder, seed=1))

    def sample(index: int) -> None:
        assert next(batches).latent_B_C_T_H_W.shape[1:] == LATENT_SHAPE

    yield sample


def energon_raw(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """Ours, training from mp4 shards: batches of one through Energon, decoded and resized as they are read."""
    from cosmos_nemo.data import loader
    from cosmos_nemo.data.raw_video import RawVideoTaskEncoder
    from cosmos_nemo.data.window import ClipWindow

    window = ClipWindow(num_frames=NUM_FRAMES, height=SIZE[0], width=SIZE[1], space="cover")
    batches = iter(loader.train_loader(folder / "raw", functools.partial(RawVideoTaskEncoder, window=window), seed=1))

    def sample(index: int) -> None:
        assert next(batches).video_B_3_T_H_W.shape == (1, 3, NUM_FRAMES, *SIZE)

    yield sample


def stream(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """Ours: all frames of a clip, one at a time, resized."""
    from cosmos_nemo.media.frames import iter_frames
    from cosmos_nemo.media.probe import probe_video

    clips = clips_of(folder)

    def clip(index: int) -> None:
        probe = probe_video(clips[0])
        assert sum(1 for _ in iter_frames(clips[0], probe, size=SIZE)) == probe.num_frames

    yield clip


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one process measures."""

    method: Callable[[pathlib.Path], Iterator[Callable[[int], None]]]
    samples: int


MEASUREMENTS = {
    "prepare": Measurement(prepare, 4),
    "prepare and normalise": Measurement(prepare_normalised, 4),
    "folder dataset": Measurement(folder_dataset, 2),
    "decode": Measurement(decode, 4),
    "ffmpeg": Measurement(ffmpeg, 4),
    "energon latents": Measurement(energon_latents, 40),
    "energon raw": Measurement(energon_raw, 4),
}


def clips_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """The benchmark's videos."""
    return sorted((folder / "videos").glob("*.mp4"))


def start_of(index: int) -> int:
    """First frame of the index-th chunk: the same for every method."""
    return random.Random(index).randrange(CLIP_FRAMES - NUM_FRAMES + 1)


def measure(name: str, folder: pathlib.Path, samples: int) -> dict[str, float]:
    """Run one measurement in this process, after one sample that warms caches and imports."""
    import torch

    from benchmarks.measure import status_bytes

    torch.set_num_threads(1)
    method = MEASUREMENTS[name].method if name in MEASUREMENTS else stream
    with contextlib.closing(method(folder)) as run:
        sample = next(run)
        sample(samples)
        cpu, wall = cpu_seconds(), time.perf_counter()
        for index in range(samples):
            sample(index)
        cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    return {
        "cpu_seconds": cpu / samples,
        "wall_seconds": wall / samples,
        "peak_mib": status_bytes("VmHWM") / 2**20,  # getrusage would count that of the process that started this one
    }


def in_process(name: str, folder: pathlib.Path, samples: int, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Start `measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.data_pipeline", "--measure", name, "--folder", str(folder)]
    return subprocess.Popen(
        [*command, "--samples", str(samples)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def outcome(process: "subprocess.Popen[str]") -> dict[str, float]:
    """Wait for a measurement."""
    text, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"error: a measurement failed; run it by hand: {' '.join(map(str, process.args))}")
    return json.loads(text.splitlines()[-1])


def take_turns(folder: pathlib.Path, repeats: int, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Every measurement once per round, in an order that changes."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in MEASUREMENTS}
    for turn in range(repeats):
        for name in random.Random(turn).sample(list(MEASUREMENTS), len(MEASUREMENTS)):
            process = in_process(name, folder, MEASUREMENTS[name].samples, environment)
            rows[name].append(outcome(process))
            print(
                f"{turn + 1}/{repeats} {name}: {rows[name][-1]['cpu_seconds']:.4f} CPU-s", file=sys.stderr, flush=True
            )
    return {
        name: {
            "cpu_seconds": round(statistics.median(run["cpu_seconds"] for run in runs), 4),
            "cpu_seconds_of_runs": [round(run["cpu_seconds"], 4) for run in runs],
        }
        for name, runs in rows.items()
    }


def memory(folder: pathlib.Path, environment: dict[str, str]) -> dict[str, int]:
    """Peak memory where it must not grow: with the length of a video, and with the samples read."""
    long = folder / "long"
    runs = {
        f"stream, {CLIP_FRAMES} frames": ("stream", folder, 1),
        f"stream, {CLIP_FRAMES * LONG} frames": ("stream", long, 1),
        f"93 frames of {CLIP_FRAMES}": ("prepare", folder, 1),
        f"93 frames of {CLIP_FRAMES * LONG}": ("prepare", long, 1),
        f"folder dataset, 93 frames of {CLIP_FRAMES}": ("folder dataset", folder, 1),
        "mp4 shards, 4 samples": ("energon raw", folder, 4),
        "mp4 shards, 16 samples": ("energon raw", folder, 16),
        f"latents, {NUM_LATENTS * 2} samples": ("energon latents", folder, NUM_LATENTS * 2),
        f"latents, {NUM_LATENTS * 2 * LONG} samples": ("energon latents", folder, NUM_LATENTS * 2 * LONG),
    }
    return {
        name: round(outcome(in_process(what, where, samples, environment))["peak_mib"])
        for name, (what, where, samples) in runs.items()
    }


def scaling(folder: pathlib.Path, repeats: int, environment: dict[str, str]) -> dict[str, Any]:
    """Chunks per second of wall time with one and with two processes, in turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    costs: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for count in rates:
            results = [outcome(p) for p in [in_process("prepare", folder, 4, environment) for _ in range(count)]]
            rates[count].append(sum(1 / result["wall_seconds"] for result in results))
            costs[count].append(statistics.mean(result["cpu_seconds"] for result in results))
    one, two = (statistics.median(rates[count]) for count in (1, 2))
    return {
        "chunks_per_second": {"1 worker": round(one, 3), "2 workers": round(two, 3)},
        "cpu_seconds_per_chunk": {f"{n} worker(s)": round(statistics.median(c), 3) for n, c in costs.items()},
        "speedup": round(statistics.median(b / a for a, b in zip(rates[1], rates[2], strict=True)), 2),
    }


# The data.


def make_data(folder: pathlib.Path, sources: list[pathlib.Path]) -> None:
    """Videos with embeddings, shards of latents, and shards of the videos."""
    from cosmos_nemo.media.frames import iter_frames
    from cosmos_nemo.media.probe import probe_video
    from data_prep.__main__ import app

    for place, length in ((folder, CLIP_FRAMES), (folder / "long", CLIP_FRAMES * LONG)):
        for name in ("videos", "metas"):
            (place / name).mkdir(parents=True)
        for source in sources if place == folder else sources[:1]:
            probe = probe_video(source)
            there_and_back = [*range(probe.num_frames), *reversed(range(1, probe.num_frames - 1))]
            frames = list(iter_frames(source, probe, size=CLIP_SIZE, fit="cover"))
            looped = (frames[there_and_back[k % len(there_and_back)]] for k in range(length))
            write_long_gop(place / "videos" / source.name, looped)
            (place / "metas" / f"{source.stem}.txt").write_text("a clip\n")
    write_embeddings(folder)
    write_latents(folder / "latents")
    words = (
        f"shards --for tokenizer --input {folder} --output {folder / 'raw'} --num-frames {NUM_FRAMES} --val-fraction 0"
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app(words.split(), standalone_mode=False)


def write_long_gop(path: pathlib.Path, frames: Iterator[Any]) -> None:
    """H.264 as videos are found: x264's medium preset, with B-frames and a keyframe every 250 frames at most."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "23", "preset": "medium"})
        stream.height, stream.width = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        for frame_3_H_W in frames:
            pixels = frame_3_H_W.permute(1, 2, 0).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_embeddings(folder: pathlib.Path) -> None:
    """Embeddings of 60 tokens, as upstream stores them."""
    import torch

    from data_prep.folders.t5 import to_pickle

    (folder / "t5_xxl").mkdir()
    for path in clips_of(folder):
        (folder / "t5_xxl" / f"{path.stem}.pickle").write_bytes(to_pickle(torch.randn(60, 1024)))


def write_latents(folder: pathlib.Path) -> None:
    """Shards of random latents with embeddings of 60 tokens."""
    import torch

    from tests.data.shards import make_sample, write_dataset

    samples = [
        dataclasses.replace(make_sample(f"s{k}", LATENT_SHAPE), text_L_E=torch.randn(60, 1024).bfloat16())
        for k in range(NUM_LATENTS)
    ]
    half = NUM_LATENTS // 2
    shards = {"train-000000.tar": samples[:half], "train-000001.tar": samples[half:]}
    with contextlib.redirect_stdout(io.StringIO()):
        write_dataset(folder, shards, latent_shape=LATENT_SHAPE, text_width=1024)


def find_sources(videos: pathlib.Path | None, folder: pathlib.Path) -> list[pathlib.Path]:
    """Videos to make the clips of: some that were given, or rendered scenes."""
    from cosmos_nemo.media.probe import probe_video
    from data_prep.demo.options import SampleOptions
    from data_prep.demo.sample import write_sample

    if videos is None:
        height, width = CLIP_SIZE
        write_sample(folder, SampleOptions(num_videos=3, num_frames=60, fps=24, height=height, width=width))
        videos = folder / "videos"
    probes = {path: probe_video(path) for path in sorted(videos.glob("*.mp4"))}
    long = [path for path, probe in probes.items() if probe.num_frames >= 48]
    return sorted(long, key=lambda path: -probes[path].height * probes[path].width)[:3]


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The ratios that are asked for, each with its target."""

    def ratio(slow: str, fast: str) -> float:
        pairs = zip(rows[slow]["cpu_seconds_of_runs"], rows[fast]["cpu_seconds_of_runs"], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 2)

    wanted = {
        "folder dataset / prepare": ("folder dataset", "prepare", 6),
        "folder dataset / prepare and normalise": ("folder dataset", "prepare and normalise", None),
        "decode, share of the ffmpeg limit": ("ffmpeg", "decode", 0.75),
        "folder dataset / energon latents": ("folder dataset", "energon latents", 100),
        "folder dataset / energon raw": ("folder dataset", "energon raw", 5),
    }
    return {
        name: {"ratio": ratio(slow, fast), "target_at_least": least} for name, (slow, fast, least) in wanted.items()
    }


def main() -> None:
    """Measure, print JSON, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=pathlib.Path, help="three of these are used; rendered scenes if left out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decord", type=pathlib.Path, help="folder that holds decord")
    parser.add_argument("--output", type=pathlib.Path, help="also write the JSON here")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help="keep the data here, or take it from here")
    parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.folder, arguments.samples)))
        return
    path = [str(arguments.decord)] if arguments.decord else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([*path, os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        if not (folder / "raw" / "manifest.json").is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise SystemExit(f"error: {folder} holds something else, or half of the data; use another folder")
            make_data(folder, find_sources(arguments.videos, folder / "scenes"))
        result = run(folder, arguments.parts, arguments.repeats, environment)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


def run(folder: pathlib.Path, parts: list[str], repeats: int, environment: dict[str, str]) -> dict[str, Any]:
    """The measurements of these parts."""
    name = "from benchmarks.folder_dataset import NAME; print(NAME)"
    peer = subprocess.run([sys.executable, "-c", name], check=True, capture_output=True, text=True, env=environment)
    result: dict[str, Any] = {
        "machine": {"cpu": cpu_name(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: importlib.metadata.version(name) for name in ("av", "torch", "megatron-energon")},
        "date": time.strftime("%Y-%m-%d"),
        "clips": {path.name: path.stat().st_size for path in clips_of(folder)},
        "clip": f"{CLIP_FRAMES} frames of {CLIP_SIZE[0]}x{CLIP_SIZE[1]}, x264 medium crf 23, one keyframe in 250",
        "sample": f"{NUM_FRAMES} frames of {SIZE[0]}x{SIZE[1]}, decode and ffmpeg: a whole clip",
        "peer": peer.stdout.strip().splitlines()[-1],
        "load_average_before": {},
    }
    for part in parts:
        result["load_average_before"][part] = round(os.getloadavg()[0], 1)
        if part == "rates":
            rows = take_turns(folder, repeats, environment)
            result |= {"results": summary(rows), "cpu_seconds_per_sample": rows}
        elif part == "scaling":
            result["scaling"] = scaling(folder, repeats, environment)
        else:
            result["peak_mib"] = memory(folder, environment)
    return result


def cpu_name() -> str:
    """The processor, as the kernel calls it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    main()
