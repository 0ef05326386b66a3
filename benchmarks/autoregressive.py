"""A training step of the autoregressive network against two peers of the same shape, as JSON.

    python benchmarks/autoregressive.py --threads 1                 # a stack of layers, fp32 and bf16, on a CPU
    python benchmarks/autoregressive.py --size 4b --recompute       # the 4B network on CUDA: tokens/s, MFU, peak memory

Peers: the same network in plain torch with the same weights and the same loss (`plain_ar.py`), and transformers'
LlamaForCausalLM, which has no query and key norms, positions in one dimension and no z-loss. A step is forward, loss
and backward. Time: one warm-up, then interleaved pairs; the ratio is the median of the pairs' ratios. Memory: the peak
during a step above what the network itself takes, gradients included; on a CPU in a process of its own per network.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ar_shapes import DTYPES, network_config, peer_settings
from benchmarks.measure import Action, header, peak_in_own_process, peak_of, time_pairs
from benchmarks.plain_ar import PlainTransformer, plain_loss
from cosmos_nemo import families
from cosmos_nemo.checkpoints.convert import published_state_dict
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.flops import forward_flops
from cosmos_nemo.models.autoregressive.loss import NextTokenObjective, next_token_labels, next_token_loss
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.platform.devices import device_peak_tflops

LATENT = {"stack": (5, 8, 16), "4b": (5, 24, 40)}
PEERS = ("plain", "llama")
OBJECTIVE = NextTokenObjective()


def configure(args: argparse.Namespace, dtype: torch.dtype) -> ARConfig:
    """The named size, or four layers with its proportions for a CPU."""
    settings = {"recompute_granularity": "full"} if args.recompute else {}
    return network_config(args.size, dtype, num_layers=4, **settings)


def make_tokens(config: ARConfig, args: argparse.Namespace) -> Tensor:
    """One batch of random ids."""
    shape = (args.batch, config.num_tokens(LATENT[args.size]))
    return torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(0)).to(args.device)


def ours(config: ARConfig, tokens: Tensor, args: argparse.Namespace) -> tuple[nn.Module, Action]:
    """Our network and its step."""
    network = families.of_config(config).build(config, seed=0).to(args.device).train()
    latent = LATENT[args.size]

    def loss() -> Tensor:
        return next_token_loss(
            network(tokens, latent_shape=latent),
            next_token_labels(tokens, latent_shape=latent, config=config, objective=OBJECTIVE),
            objective=OBJECTIVE,
            token_range=network.token_range(tokens.shape[1]),
            tp_group=network.groups.tp,
        ).total

    return network, _step(network, loss)


def plain(config: ARConfig, tokens: Tensor, args: argparse.Namespace, weights: Any) -> tuple[nn.Module, Action]:
    """The network in plain torch and its step; with our weights if they are given."""
    latent = LATENT[args.size]
    network = PlainTransformer(config, latent)
    if weights is not None:
        network.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    network = network.to(device=args.device, dtype=config.params_dtype).train()
    given, z = latent[1] * latent[2] * OBJECTIVE.num_condition_latents_t, OBJECTIVE.z_loss_coeff

    def forward() -> Tensor:
        if not config.recompute_granularity:
            return network(tokens)
        from torch.utils.checkpoint import checkpoint

        x = network.tok_embeddings(tokens)
        tables = network.cos.to(x.dtype), network.sin.to(x.dtype)
        for layer in network.layers:
            x = checkpoint(layer, x, *tables, use_reentrant=False)
        return network.output(network.norm(x))

    return network, _step(network, lambda: plain_loss(forward(), tokens, given=given, z_loss_coeff=z))


def llama(config: ARConfig, tokens: Tensor, args: argparse.Namespace) -> tuple[nn.Module, Action]:
    """Llama of the same shape and its step, with its own loss on the same positions."""
    import transformers

    settings = transformers.LlamaConfig(**peer_settings(config, tokens.shape[1]), use_cache=False)
    with torch.device(args.device):
        network = transformers.LlamaForCausalLM(settings).to(config.params_dtype).train()
    if config.recompute_granularity:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    _, H, W = LATENT[args.size]
    labels = tokens.clone()
    labels[:, : H * W * OBJECTIVE.num_condition_latents_t] = -100
    return network, _step(network, lambda: network(tokens, labels=labels).loss)


def _step(network: nn.Module, loss: Any) -> Action:
    def step() -> float:
        network.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value.detach()

    return step


def build(name: str, config: ARConfig, tokens: Tensor, args: argparse.Namespace, weights: Any = None) -> Any:
    """A network by its name, with its step."""
    torch.manual_seed(0)
    if name == "ours":
        return ours(config, tokens, args)
    return plain(config, tokens, args, weights) if name == "plain" else llama(config, tokens, args)


def measure(args: argparse.Namespace, dtype: str, peer: str) -> dict[str, Any]:
    """One row of the result: our network against one peer."""
    config = configure(args, DTYPES[dtype])
    tokens = make_tokens(config, args)
    network, step = ours(config, tokens, args)
    weights = published_state_dict(network) if peer == "plain" else None
    other, peer_step = build(peer, config, tokens, args, weights)
    row: dict[str, Any] = {
        "peer": peer,
        "dtype": dtype,
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "tokens": tokens.numel(),
        "vocabulary": config.vocab_size,
        "recompute": config.recompute_granularity,
        "loss_ours": round(step().item(), 5),
        "loss_peer": round(peer_step().item(), 5),
    }
    row |= time_pairs(step, peer_step, args.pairs)
    row["tokens_per_second_ours"] = round(tokens.numel() / row["seconds_ours"], 1)
    row["tokens_per_second_peer"] = round(tokens.numel() / row["seconds_peer"], 1)
    peak = device_peak_tflops()
    if peak is not None and dtype == "bf16":
        tflop = 3 * forward_flops(config, tokens.shape[1], 0, args.batch) / 1e12
        row["mfu_ours"] = round(tflop / row["seconds_ours"] / peak, 4)
        row["mfu_peer"] = round(tflop / row["seconds_peer"] / peak, 4)
    if torch.cuda.is_available():
        peaks = {}
        for name, (net, act) in {"ours": (network, step), "peer": (other, peer_step)}.items():
            net.zero_grad(set_to_none=True)
            peaks[name] = peak_of(act)
            net.zero_grad(set_to_none=True)
    else:
        command = [*sys.argv[1:], "--dtypes", dtype, "--probe"]
        peaks = {"ours": peak_in_own_process(__file__, [*command, "ours"])}
        peaks["peer"] = peak_in_own_process(__file__, [*command, peer])
    row |= {f"peak_mib_{whose}": round(size / 2**20, 1) for whose, size in peaks.items()}
    return row | {"peak_ratio_ours_to_peer": round(peaks["ours"] / peaks["peer"], 4)}


def probe(args: argparse.Namespace) -> int:
    """The peak memory of one network's step, in a process that holds no other."""
    config = configure(args, DTYPES[args.dtypes[0]])
    network, step = build(args.probe, config, make_tokens(config, args), args)
    step()  # one-time allocations of libraries
    network.zero_grad(set_to_none=True)
    return peak_of(step)


def main() -> None:
    """Parses the command line, measures and prints."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="stack", choices=list(LATENT))
    parser.add_argument(
        "--dtypes", nargs="+", default=["bf16"] if device == "cuda" else ["fp32", "bf16"], choices=DTYPES
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=7, help="repetitions of each network (default 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS)
    parser.add_argument("--recompute", action="store_true", help="full activation recomputation in all networks")
    parser.add_argument("--probe", choices=["ours", *PEERS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = device
    torch.set_num_threads(args.threads)
    with model_parallel_world():
        if args.recompute:  # Megatron's checkpoint needs its random-number tracker
            from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

            from cosmos_nemo.platform.install import install

            install()
            model_parallel_cuda_manual_seed(0)
        if args.probe:
            print(probe(args))
            return
        result = header("autoregressive", ("torch", "megatron-core", "transformers"))
        rows = [measure(args, dtype, peer) for dtype in args.dtypes for peer in args.peers]
        print(json.dumps({**result, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
