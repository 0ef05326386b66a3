"""Forward and backward of the Predict2 network against diffusers' CosmosTransformer3DModel, as JSON.

    python benchmarks/dit_step.py                                   # a stack of blocks; fp32 and bf16 on a CPU
    python benchmarks/dit_step.py --size 2b --resolution 720        # the 2B network on CUDA, with MFU

Both networks hold the same weights and get the same inputs. Time: one warm-up, then interleaved pairs (A B, B A, ...);
the ratio is the median of the pairs' ratios, so a load that comes and goes hits both. Memory: the peak during one step
above what the network itself takes, gradients included; on a CPU in a process of its own per network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from cosmos_nemo import families
from cosmos_nemo.models.dit.config import PREDICT2, DiTConfig, Predict2Config
from cosmos_nemo.models.dit.flops import forward_flops
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.platform.devices import device_peak_tflops

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FRAMES = 24  # latent frames of the 16 fps models
LATENT_SIZE = {"480": (54, 96), "720": (88, 160)}  # 432 x 768 and 704 x 1280 pixels
Step = Callable[[], Tensor]


def stack_config(dtype: torch.dtype) -> DiTConfig:
    """Four blocks with the proportions of the real sizes, for a CPU."""
    return Predict2Config(
        num_layers=4,
        hidden_size=512,
        num_attention_heads=8,
        crossattn_emb_channels=256,
        adaln_lora_dim=64,
        video_condition=True,
        params_dtype=dtype,
        bf16=dtype is torch.bfloat16,
    )


def configure(args: argparse.Namespace, dtype: torch.dtype) -> tuple[DiTConfig, tuple[int, int, int], int]:
    """The network, the latent size (T, H, W) and the number of text tokens."""
    if args.size == "stack":
        config, latent, text = stack_config(dtype), (4, 32, 32), 512
    else:
        config = PREDICT2[f"video2world_{args.size}"](params_dtype=dtype, bf16=dtype is torch.bfloat16)
        latent, text = (FRAMES, *LATENT_SIZE[args.resolution]), 512
    if args.recompute:
        config.recompute_granularity, config.recompute_method, config.recompute_num_layers = "full", "uniform", 1
    return config, latent, text


def make_inputs(
    config: DiTConfig, latent: tuple[int, int, int], text: int, args: argparse.Namespace
) -> dict[str, Tensor]:
    """One batch, with a timestep per frame (Video2World training) or per sample (Text2Image)."""
    gen = torch.Generator().manual_seed(0)
    shape = (args.batch, config.in_channels, *latent)
    condition = torch.zeros(args.batch, 1, *latent)
    condition[:, :, 0] = 1
    timesteps = torch.rand(args.batch, latent[0], generator=gen)
    inputs = {
        "x_B_C_T_H_W": torch.randn(shape, generator=gen),
        "timesteps_B_T": timesteps if args.timesteps == "frame" else timesteps[:, 0],
        "crossattn_emb_B_L_E": torch.randn(args.batch, text, config.crossattn_emb_channels, generator=gen),
        "condition_mask_B_1_T_H_W": condition,
        "padding_mask_B_1_H_W": torch.zeros(args.batch, 1, *latent[1:]),
    }
    return {name: value.to(args.device) for name, value in inputs.items()}


def build_ours(config: DiTConfig, inputs: dict[str, Tensor]) -> tuple[nn.Module, Step]:
    """Our network and a function that runs its forward pass."""
    model = families.of_config(config).build(config, seed=0).to(next(iter(inputs.values())).device)
    with torch.no_grad():  # a fresh network does not use its modulation: those matrices start at zero
        for name, parameter in model.named_parameters():
            if name.endswith("adaln.up"):
                parameter.normal_(std=0.02)
    return model, lambda: model(**inputs)


def build_both(config: DiTConfig, inputs: dict[str, Tensor]) -> dict[str, tuple[nn.Module, Step]]:
    """Our network and diffusers' with the same weights."""
    from benchmarks.diffusers_peer import build_peer, peer_forward

    ours, step = build_ours(config, inputs)
    peer = build_peer(ours).train()
    if config.recompute_granularity:
        peer.enable_gradient_checkpointing()
    return {"ours": (ours, step), "peer": (peer, lambda: peer_forward(peer, inputs))}


def run_step(network: nn.Module, step: Step) -> float:
    """One forward and backward pass; returns seconds."""
    network.zero_grad(set_to_none=True)
    _synchronize()
    start = time.perf_counter()
    step().float().square().mean().backward()
    _synchronize()
    return time.perf_counter() - start


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_pairs(networks: dict[str, tuple[nn.Module, Step]], pairs: int) -> dict[str, Any]:
    """Medians in seconds, and the median of the pairs' ratios."""
    for network, step in networks.values():
        run_step(network, step)
        network.zero_grad(set_to_none=True)
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for pair in range(pairs):
        for name in ("ours", "peer") if pair % 2 == 0 else ("peer", "ours"):
            seconds[name].append(run_step(*networks[name]))
            networks[name][0].zero_grad(set_to_none=True)
    ratios = [ours / peer for ours, peer in zip(seconds["ours"], seconds["peer"], strict=True)]
    return {
        "seconds_ours": round(statistics.median(seconds["ours"]), 4),
        "seconds_peer": round(statistics.median(seconds["peer"]), 4),
        "ratio_ours_to_peer": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
    }


def peak_of_step(network: nn.Module, step: Step) -> int:
    """Bytes by which one step (with fresh gradients) rises above what is there before it."""
    network.zero_grad(set_to_none=True)
    return measure.peak_of(lambda: run_step(network, step))


def measure_memory(args: argparse.Namespace, dtype: str, networks: dict[str, tuple[nn.Module, Step]]) -> dict[str, Any]:
    """Peak memory of both networks, in MiB, and their ratio."""
    if torch.cuda.is_available():
        peaks = {name: peak_of_step(*networks[name]) for name in networks}
    else:
        probe = [*sys.argv[1:], "--dtypes", dtype, "--probe"]
        peaks = {name: measure.peak_in_own_process(__file__, [*probe, name]) for name in networks}
    return {
        "peak_mib_ours": round(peaks["ours"] / 2**20, 1),
        "peak_mib_peer": round(peaks["peer"] / 2**20, 1),
        "peak_ratio_ours_to_peer": round(peaks["ours"] / peaks["peer"], 4),
    }


def measure_dtype(args: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """One row of the result."""
    config, latent, text = configure(args, DTYPES[dtype])
    inputs = make_inputs(config, latent, text, args)
    networks = build_both(config, inputs)
    with torch.no_grad():
        ours, peer = (step().float() for _, step in networks.values())
    difference = ((ours - peer).abs().max() / peer.abs().max()).item()
    row: dict[str, Any] = {
        "dtype": dtype,
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "latent_T_H_W": latent,
        "video_tokens": latent[0] * latent[1] * latent[2] // 4,
        "text_tokens": text,
        "batch": args.batch,
        "timesteps_per": args.timesteps,
        "recompute": config.recompute_granularity,
        "largest_relative_output_difference": float(f"{difference:.2e}"),
    }
    row |= time_pairs(networks, args.pairs) | measure_memory(args, dtype, networks)
    flops = 3 * forward_flops(config, row["video_tokens"], text, args.batch)
    row["model_tflops_per_step"] = round(flops / 1e12, 4)
    peak = device_peak_tflops()
    if peak is not None and dtype == "bf16":
        row["mfu_ours"] = round(flops / row["seconds_ours"] / peak / 1e12, 4)
        row["mfu_peer"] = round(flops / row["seconds_peer"] / peak / 1e12, 4)
    return row


def probe(args: argparse.Namespace, dtype: str) -> int:
    """The peak memory of one network, in a process that holds no other."""
    config, latent, text = configure(args, DTYPES[dtype])
    inputs = make_inputs(config, latent, text, args)
    if args.probe == "ours":
        network, step = build_ours(config, inputs)
    else:
        network, step = build_both(config, inputs)["peer"]
    run_step(network, step)  # one-time allocations of libraries
    return peak_of_step(network, step)


def main() -> None:
    """Parses the command line, measures and prints."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="stack", choices=["stack", "2b", "14b"])
    parser.add_argument("--resolution", default="480", choices=list(LATENT_SIZE))
    parser.add_argument(
        "--dtypes", nargs="+", default=["bf16"] if device == "cuda" else ["fp32", "bf16"], choices=DTYPES
    )
    parser.add_argument("--timesteps", default="frame", choices=["frame", "sample"], help="one per frame or per sample")
    parser.add_argument("--pairs", type=int, default=5, help="repetitions of each network (default 5)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--recompute", action="store_true", help="full activation recomputation in both networks")
    parser.add_argument("--probe", choices=["ours", "peer"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = device
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with model_parallel_world():
        print(probe(args, args.dtypes[0]) if args.probe else json.dumps(measure_all(args), indent=2))


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """The whole result."""
    return {
        "benchmark": "dit_step",
        "device": measure.device_name(),
        "threads": args.threads,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": {name: version(name) for name in ("torch", "megatron-core", "diffusers")},
        "command": " ".join(["python", "benchmarks/dit_step.py", *sys.argv[1:]]),
        "rows": [measure_dtype(args, dtype) for dtype in args.dtypes],
    }


if __name__ == "__main__":
    main()
