"""Training step and encoding of the Cosmos tokenizers against NeMo's network with the same weights, as JSON.

    python benchmarks/tokenizer.py --threads 1 --pairs 3 --compile    # crops of 9x128x128, full width; for a CPU
    python benchmarks/tokenizer.py --frames 49 --size 256 --dtype bf16 --clip-channels 128     # on CUDA

Rows: one per network (cv8x8x8, dv8x16x16). Time is that of interleaved pairs, see `measure`. Frames per second are
pixel frames of the crop. `clip` encodes 121 frames of 720x1280 in pieces; on a CPU with a narrow network, because the
full width takes hours there (--clip-channels 128 to do it anyway). In much smaller crops than 128x128 the time is that
of handling 400 MB of weights and not of convolving.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from benchmarks.nemo_tokenizer_peer import build_peer
from cosmos_nemo import families
from cosmos_nemo.tokenizers.cosmos import pieces
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig, CV8x8x8Config, DV8x16x16Config
from cosmos_nemo.tokenizers.cosmos.pieces import Limits

CONFIGS = {"cv8x8x8": CV8x8x8Config, "dv8x16x16": DV8x16x16Config}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MIB = 2**20


class Case:
    """One network in both implementations, and a clip."""

    def __init__(self, name: str, args: argparse.Namespace, *, peer: bool = True) -> None:
        torch.manual_seed(0)
        config = CONFIGS[name](channels=args.channels)
        dtype, device = DTYPES[args.dtype], args.device
        self.ours = families.of_config(config).build(config)
        self.peer = build_peer(self.ours).to(device=device, dtype=dtype) if peer else None
        self.ours.to(device, dtype)
        shape = (args.batch, 3, args.frames, args.size, args.size)
        self.video = (torch.rand(shape) * 2 - 1).to(device, dtype)
        self.frames = args.batch * args.frames

    def train(self, which: str) -> None:
        """One forward and backward pass."""
        network = self.network(which).train()
        output = network(self.video)
        video = output["reconstructions"] if isinstance(output, dict) else output[0]
        (video - self.video).abs().mean().backward()
        network.zero_grad(set_to_none=True)

    @torch.no_grad()
    def encode(self, which: str) -> Tensor:
        """To latents or tokens."""
        code = self.network(which).eval().encode(self.video)
        if isinstance(code, Tensor):
            return code
        return code[1] if which == "ours" and self.ours.config.discrete else code[0]

    @torch.no_grad()
    def difference(self) -> float:
        """Largest difference of the reconstructions, relative to the largest value."""
        ours, peer = (self.network(which).eval()(self.video)[0] for which in ("ours", "peer"))
        return ((ours - peer).abs().max() / peer.abs().max()).item()

    def network(self, which: str) -> nn.Module:
        """Ours or the peer."""
        network = self.ours if which == "ours" else self.peer
        assert network is not None
        return network


def measure_network(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything about one network."""
    case = Case(name, args)
    row: dict[str, Any] = {
        "network": name,
        "dtype": args.dtype,
        "channels": args.channels,
        "parameters": sum(p.numel() for p in case.ours.parameters()),
        "parameters_peer": sum(p.numel() for p in case.network("peer").parameters()),
        "clip_T_H_W": list(case.video.shape[2:]),
        "largest_relative_output_difference": float(f"{case.difference():.2e}"),
    }
    for what, action in (("train", case.train), ("encode", case.encode)):
        timed = measure.time_pairs(lambda: action("ours"), lambda: action("peer"), args.pairs)  # noqa: B023
        timed["frames_per_second_ours"] = round(case.frames / timed["seconds_ours"], 3)
        timed["frames_per_second_peer"] = round(case.frames / timed["seconds_peer"], 3)
        row[what] = timed | peaks(name, what, args)
    row["train_recomputing"] = recomputing(case, name, args)
    row["peer_channels_last_3d"] = {what: measure_layout(case, what, args) for what in ("train", "encode")}
    if args.compile:
        row["encode_compiled"] = compiled(case, args)
    return row


def peaks(name: str, what: str, args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of one action of both networks, MiB."""
    found = {}
    for which in ("ours", "peer"):
        if args.device == "cuda":
            case = Case(name, args)
            getattr(case, what)(which)
            found[which] = measure.peak_of(lambda: getattr(case, what)(which))  # noqa: B023
        else:
            probe = ["--probe", f"{name}:{what}:{which}", *_same(args)]
            found[which] = measure.peak_in_own_process(__file__, probe)
    return {
        "peak_mib_ours": round(found["ours"] / MIB, 1),
        "peak_mib_peer": round(found["peer"] / MIB, 1),
        "peak_ratio_ours_to_peer": round(found["ours"] / found["peer"], 4),
    }


def recomputing(case: Case, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Our training step with activation checkpointing, against the one without."""
    case.ours.use_activation_checkpointing()
    case.train("ours")
    seconds = min(measure.seconds_of(lambda: case.train("ours")) for _ in range(2))
    case.ours.use_activation_checkpointing(False)
    plain = min(measure.seconds_of(lambda: case.train("ours")) for _ in range(2))
    row = {"seconds_to_plain": round(seconds / plain, 3)}
    if args.device != "cuda":
        peak = measure.peak_in_own_process(__file__, ["--probe", f"{name}:recomputing:ours", *_same(args)])
        row["peak_mib"] = round(peak / MIB, 1)
    return row


def measure_layout(case: Case, what: str, args: argparse.Namespace) -> dict[str, Any]:
    """Ours against the peer with its weights and input moved to channels-last memory."""
    peer, video = case.network("peer"), case.video
    dtype = video.dtype  # NeMo's discrete network takes its codes to bfloat16 at every `to` that names no dtype
    peer.to(dtype=dtype, memory_format=torch.channels_last_3d)
    action = getattr(case, what)

    def run(which: str) -> None:
        case.video = video.to(memory_format=torch.channels_last_3d) if which == "peer" else video
        action(which)

    timed = measure.time_pairs(lambda: run("ours"), lambda: run("peer"), max(1, args.pairs // 2))
    peer.to(dtype=dtype, memory_format=torch.contiguous_format)
    case.video = video
    return {"ratio_ours_to_peer": timed["ratio_ours_to_peer"]}


def compiled(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Our encoding through torch.compile, against eager."""
    function = torch.compile(case.ours.eval().pre_quant)
    start = time.perf_counter()
    with torch.no_grad():
        function(case.video)
        first = time.perf_counter() - start
        timed = measure.time_pairs(lambda: function(case.video), lambda: case.ours.pre_quant(case.video), args.pairs)
    return {"ratio_compiled_to_eager": timed["ratio_ours_to_peer"], "seconds_of_first_call": round(first, 1)}


def encode_clip(args: argparse.Namespace) -> dict[str, Any]:
    """Encode 121 frames of 720x1280 as the data preparation does: in pieces, and in tiles for comparison."""
    config = CV8x8x8Config(channels=args.clip_channels)
    frames, height, width = args.clip
    row: dict[str, Any] = {"network": "cv8x8x8", "channels": args.clip_channels, "clip_T_H_W": args.clip}
    row["video_mib"] = round(3 * frames * height * width * DTYPES[args.dtype].itemsize / MIB, 1)
    for name, limits in (
        ("pieces", Limits()),
        ("pieces_and_tiles", Limits(tile_above_pixels=1, tile_pixels=320, tile_overlap=0.25)),
    ):
        if args.device == "cuda":
            network, video = _clip(config, args)
            start = time.perf_counter()
            peak = measure.peak_of(lambda: _encode(network, config, video, limits))  # noqa: B023
            seconds = time.perf_counter() - start
            row[name] = {"seconds": round(seconds, 1), "peak_mib": round(peak / MIB, 1)}
        else:
            probe = ["--probe", f"clip:{name}:ours", *_same(args)]
            start = time.perf_counter()
            peak = measure.peak_in_own_process(__file__, probe)
            row[name] = {"elapsed_seconds": round(time.perf_counter() - start, 1), "peak_mib": round(peak / MIB, 1)}
    return row


def _clip(config: CosmosTokenizerConfig, args: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    network = families.of_config(config).build(config).to(args.device, DTYPES[args.dtype]).eval()
    video = torch.rand(1, 3, *args.clip, device=args.device, dtype=DTYPES[args.dtype]) * 2 - 1
    return network, video


@torch.no_grad()
def _encode(network: nn.Module, config: CosmosTokenizerConfig, video: Tensor, limits: Limits) -> Tensor:
    return pieces.encode(network.pre_quant, config, video, limits)


def probe(args: argparse.Namespace) -> int:
    """Peak memory of one action in this process."""
    name, what, which = args.probe.split(":")
    if name == "clip":
        config = CV8x8x8Config(channels=args.clip_channels)
        network, video = _clip(config, args)
        limits = Limits() if what == "pieces" else Limits(tile_above_pixels=1, tile_pixels=320, tile_overlap=0.25)
        return measure.peak_of(lambda: _encode(network, config, video, limits))
    case = Case(name, args, peer=which == "peer")
    if what == "recomputing":
        case.ours.use_activation_checkpointing()
        what = "train"
    action = getattr(case, what)
    action(which)  # one-time allocations of libraries
    return measure.peak_of(lambda: action(which))


def _same(args: argparse.Namespace) -> list[str]:
    """This run's settings, for a process of its own."""
    names = ("threads", "frames", "size", "batch", "channels", "dtype", "clip_channels")
    settings = [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(args, name)))]
    return [*settings, "--clip", *map(str, args.clip)]


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(CONFIGS), choices=[*CONFIGS, []])
    parser.add_argument("--frames", type=int, default=9, help="of the crop, 8k + 1")
    parser.add_argument("--size", type=int, default=128, help="height and width of the crop")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--channels", type=int, default=128, help="base width; 128 is the published one")
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--pairs", type=int, default=5, help="repetitions of each network")
    parser.add_argument("--compile", action="store_true", help="also try torch.compile on our encoder")
    parser.add_argument("--clip", type=int, nargs=3, default=[121, 720, 1280], help="frames, height, width; 0 0 0: no")
    parser.add_argument("--clip-channels", type=int, default=128 if torch.cuda.is_available() else 16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(args.threads)
    if args.probe:
        print(probe(args))
        return
    result = measure.header("tokenizer", ("torch", "nemo_toolkit"))
    result["rows"] = []
    for name in args.networks:
        result["rows"].append(measure_network(name, args))
        print(json.dumps(result["rows"][-1]), file=sys.stderr, flush=True)  # a long run shows what it has
    if args.clip[0]:
        result["clip"] = encode_clip(args)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
