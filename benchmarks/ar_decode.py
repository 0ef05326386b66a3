"""Generation with the autoregressive network against transformers' generate with a cache, as JSON.

    python benchmarks/ar_decode.py --threads 1                      # a stack of layers on a CPU
    python benchmarks/ar_decode.py --size 4b --dtype bf16           # the 4B network on CUDA

Peers of the same shape: Llama, and Qwen3, which also normalises queries and keys as the Cosmos networks do. All take
the most likely token. Time: one warm-up, then interleaved pairs; the ratio is the median of the pairs' ratios. Memory:
the peak above what the network itself takes, on a CPU in a process of its own per network.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ar_shapes import DTYPES, network_config, peer_settings
from benchmarks.measure import header, peak_in_own_process, peak_of, time_pairs
from cosmos_nemo import families
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.sampling import continue_tokens
from cosmos_nemo.models.common.linear import store_by_inputs
from cosmos_nemo.parallel.process import model_parallel_world

Generate = Callable[[], Tensor]
LATENT = {"stack": (5, 8, 8), "4b": (5, 40, 64)}


def build_ours(config: ARConfig, prompt: Tensor, latent: tuple[int, int, int]) -> Generate:
    """A function that generates with our network."""
    network = families.of_config(config).build(config, seed=0).to(prompt.device).eval().requires_grad_(False)
    store_by_inputs(network)  # as `cosmos-nemo generate` does
    total = config.num_tokens(latent)
    return lambda: continue_tokens(network, prompt, num_tokens=total, latent_shape=latent)


def build_peer(name: str, config: ARConfig, prompt: Tensor, total: int) -> Generate:
    """A function that generates with the peer of the same shape."""
    import transformers

    make_config, make_model = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }[name]
    settings = make_config(**peer_settings(config, total))
    with torch.device(prompt.device):
        model = make_model(settings).to(config.params_dtype).eval().requires_grad_(False)
    new = total - prompt.shape[1]
    length = {"max_new_tokens": new, "min_new_tokens": new, "eos_token_id": None, "pad_token_id": 0}
    return lambda: model.generate(prompt, do_sample=False, use_cache=True, **length)


def build(name: str, args: argparse.Namespace) -> tuple[Generate, dict[str, Any]]:
    """The generation of our network or of a peer of its shape, and what it generates."""
    config, latent = network_config(args.size, DTYPES[args.dtype], num_layers=8), LATENT[args.size]
    total, given = config.num_tokens(latent), 2 * latent[1] * latent[2]
    prompt = torch.randint(config.vocab_size, (args.batch, given), generator=torch.Generator().manual_seed(0))
    prompt = prompt.to(args.device)
    generate = build_ours(config, prompt, latent) if name == "ours" else build_peer(name, config, prompt, total)
    shape = {"layers": config.num_layers, "hidden_size": config.hidden_size, "batch": args.batch}
    return generate, shape | {"prompt_tokens": given, "generated_tokens": total - given}


def measure(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """One row of the result: our network against one peer."""
    (ours, shape), (peer, _) = build("ours", args), build(name, args)
    row = {"peer": name, "dtype": args.dtype} | shape | time_pairs(ours, peer, args.pairs)
    for whose, generate in (("ours", ours), ("peer", peer)):
        row[f"tokens_per_second_{whose}"] = round(args.batch * shape["generated_tokens"] / row[f"seconds_{whose}"], 1)
        if args.device == "cuda":
            peak = peak_of(generate)
        else:
            which = name if whose == "peer" else whose
            peak = peak_in_own_process(__file__, [*sys.argv[1:], "--probe", which])
        row[f"peak_mib_{whose}"] = round(peak / 2**20, 1)
    return row


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="stack", choices=list(LATENT))
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=7, help="repetitions of each network (default 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--peers", nargs="+", default=["llama", "qwen3"], choices=["llama", "qwen3"])
    parser.add_argument("--probe", choices=["ours", "llama", "qwen3"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(args.threads)
    with model_parallel_world():
        if args.probe:
            generate, _ = build(args.probe, args)
            generate()  # one-time allocations of libraries
            print(peak_of(generate))
            return
        result = header("ar_decode", ("torch", "megatron-core", "transformers"))
        print(json.dumps({**result, "rows": [measure(args, name) for name in args.peers]}, indent=2))


if __name__ == "__main__":
    main()
