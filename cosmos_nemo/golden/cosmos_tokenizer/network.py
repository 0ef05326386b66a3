"""Check a video tokenizer: its activations, its gradients and the files it is exported to."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo import families
from cosmos_nemo.golden.compare import Comparison, compare, compare_to_scale, exactly, failed
from cosmos_nemo.golden.cosmos_tokenizer.build import build_config
from cosmos_nemo.golden.cosmos_tokenizer.pieces import video_axes
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.parallel.process import World
from cosmos_nemo.tokenizers.cosmos.jit import export_jit
from cosmos_nemo.tokenizers.cosmos.network import ContinuousNetwork, DiscreteNetwork
from cosmos_nemo.tokenizers.cosmos.weights import load_weights


def check_tokenizer(case: Case, world: World) -> list[Comparison]:
    """Compare every recorded activation of every clip, the gradients, and what the exported files hold and compute."""
    config = build_config(case)
    weights, io = case.load("weights"), case.load()
    network = families.of_config(config).build(config)
    assert isinstance(network, ContinuousNetwork | DiscreteNetwork)
    load_weights(network, weights, source=weights.file)
    network.to(world.device)
    clips = sorted({name.split(".")[0] for name in io if name.startswith("v")})
    comparisons = []
    for clip in clips:
        comparisons += _check_clip(case, network, io, clip, world)
    comparisons += _check_gradients(case, network, io, world)
    comparisons += _check_files(case, network, io)
    unknown = [name for name in io if name.split(".")[0] not in (*clips, "grad", "gradnorm")]
    return comparisons + [failed(name, "this project has no such quantity") for name in unknown]


@torch.no_grad()
def _check_clip(
    case: Case, network: ContinuousNetwork | DiscreteNetwork, io: Tensors, clip: str, world: World
) -> list[Comparison]:
    """Compare what is recorded of one clip, in the order of its computation."""
    video = io[f"{clip}.video"].to(world.device)
    encoder_out = network.encoder(video)
    out = network(video)
    computed = {
        "patched": video_axes(network.encoder.patcher3d(video)),
        "encoder_out": video_axes(encoder_out),
        "pre_quant": video_axes(network.quant_conv(encoder_out)),
        "indices": out.indices_B_T_H_W,
        "codes" if network.config.discrete else "latent": out.latent_B_C_T_H_W,
        "reconstruction": out.video_B_3_T_H_W,
    }
    comparisons = []
    for name in (name for name in io if name.startswith(f"{clip}.") and name != f"{clip}.video"):
        value = computed.get(name.split(".", 1)[1])
        if value is None:
            comparisons.append(failed(name, "this project has no such quantity"))
        elif io[name].is_floating_point():
            comparisons.append(_compare_activation(case, name, value, io[name]))
        else:
            comparisons.append(compare(name, value, io[name], case.allowed("integers")))
    if isinstance(network, DiscreteNetwork) and f"{clip}.indices" in io:
        decoded = network.decode_indices(io[f"{clip}.indices"].to(world.device))
        name = f"{clip}.reconstruction"
        comparisons.append(_compare_activation(case, f"{name} from indices", decoded, io[name]))
    return comparisons


def _check_gradients(
    case: Case, network: ContinuousNetwork | DiscreteNetwork, io: Tensors, world: World
) -> list[Comparison]:
    """Compare gradients (or their norms) of mean |reconstruction - video| for the first clip."""
    wanted = [name for name in io if name.startswith(("grad.", "gradnorm."))]
    if not wanted:
        return []
    video = io["v0.video"].to(world.device)
    network.train().zero_grad()
    reconstruction = network(video).video_B_3_T_H_W
    # The outer derivative of |x| is taken at the golden reconstruction: where x is nearly 0, rounding decides its sign.
    sign = (io["v0.reconstruction"].to(world.device) - video).sign()
    torch.autograd.backward(reconstruction, sign / sign.numel())
    network.eval()
    parameters = dict(network.named_parameters())
    comparisons = []
    for name in wanted:
        kind, parameter = name.split(".", 1)
        gradient = parameters[parameter].grad if parameter in parameters else None
        if gradient is None:
            comparisons.append(failed(name, "this project has no such gradient"))
            continue
        value = gradient if kind == "grad" else torch.linalg.vector_norm(gradient)
        comparisons.append(_compare_gradient(case, name, value.reshape(io[name].shape), io[name]))
    return comparisons


def _check_files(case: Case, network: ContinuousNetwork | DiscreteNetwork, io: Tensors) -> list[Comparison]:
    """Compare names, shapes and types in the exported files with those recorded, and run the files."""
    if "jit_keys" not in case.extra:
        return []
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        export_jit(network, network.config, folder)
        files = {name: torch.jit.load(str(Path(folder) / name)) for name in case.extra["jit_keys"]}
    for name, expected in case.extra["jit_keys"].items():
        found = {key: [list(value.shape), str(value.dtype)] for key, value in files[name].state_dict().items()}
        wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        comparisons.append(exactly(f"keys of {name}", equal=not wrong, note=f"differ: {', '.join(wrong[:4])}"))
    with torch.no_grad(), torch.jit.optimized_execution(False):
        video, expected_video = io["v0.video"], io["v0.reconstruction"]
        reconstructions = {
            "encoder.jit, decoder.jit": files["decoder.jit"](files["encoder.jit"](video)[0]),
            "autoencoder.jit": files["autoencoder.jit"](video)[0],
        }
    for name, reconstruction in reconstructions.items():
        quantity = f"v0.reconstruction by {name}"
        comparisons.append(_compare_activation(case, quantity, reconstruction, expected_video))
    return comparisons


def _compare_gradient(case: Case, quantity: str, actual: Tensor, expected: Tensor) -> Comparison:
    """Compare a gradient: the case's tolerance of gradients, plus that of activations relative to the largest."""
    atol, relative = (case.allowed(name)["atol"] for name in ("gradients", "activations"))
    return compare_to_scale(quantity, actual, expected, atol=atol, relative=relative)


def _compare_activation(case: Case, quantity: str, actual: Tensor, expected: Tensor) -> Comparison:
    """Compare an activation: the case's tolerance, absolute, and relative to the largest value.

    The tolerances are meant for values around 1. With random weights reconstructions reach 20, where the reference
    itself is 3e-5 from the same network in float64.
    """
    tolerance = case.allowed("activations")["atol"]
    return compare_to_scale(quantity, actual, expected, atol=tolerance, relative=tolerance)
