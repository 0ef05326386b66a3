"""Check the terms of the tokenizers' loss, its gradient and the metrics."""

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare, compare_kinked, failed
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.tokenizers.losses import metrics, terms
from cosmos_nemo.tokenizers.losses.vgg import VGG16Features
from cosmos_nemo.tokenizers.losses.video_loss import Schedule, VideoLoss, VideoLossConfig

VGG_RULE = (
    "torchvision VGG16 conv i (0..12): weight=randn(shape, Generator.manual_seed(1000+i))*sqrt(2/fan_in); "
    "bias=0.05*randn(out, Generator.manual_seed(2000+i)); fp32 CPU torch generator"
)
FLOW_RULE = "flow(a,b)=stack([b[:,0]-a[:,0], b[:,1]*a[:,1]],1)"
"""The networks that stand for the published ones; no other rule is understood."""

KL_WEIGHT = 1e-6
VOCABULARY = 64000
_AT_ITERATION = re.compile(r"(?P<term>lpips|gram|flow_toy|total)\.iter(?P<iteration>\d+)(?P<detail>\..+)?")


def check_losses(case: Case) -> list[Comparison]:
    """Compare features, every term at every recorded iteration, the gradient, and the metrics."""
    for key, known in (("vgg_rule", VGG_RULE), ("toy_flow_rule", FLOW_RULE)):
        if case.extra.get(key) != known:
            raise UserError(f"{key} '{case.extra.get(key)}' is not known; only '{known}' is")
    io = case.load()
    vgg = seeded_vgg()
    pair = (io["input"], io["reconstruction"])
    with torch.no_grad():
        features = [vgg(terms.frames_of(video)) for video in pair]
    computed = _quantities(io, pair, features[0])
    inputs = {"input", "reconstruction", "kl.mean_in", "kl.logvar_in", "consistency.windows_recon"}
    comparisons = []
    for name in sorted(io.keys() - inputs - {"metric.code_indices"}):
        if match := _AT_ITERATION.fullmatch(name):
            comparisons.append(_check_iteration(case, io, name, match, vgg, features))
        elif name in computed:
            comparisons.append(compare(name, computed[name](), io[name], _tolerance(case, name, io[name])))
        else:
            comparisons.append(failed(name, "this project has no such quantity"))
    return comparisons


def _quantities(io: Tensors, pair: tuple[Tensor, Tensor], features: list[Tensor]) -> dict[str, Callable[[], Tensor]]:
    """Return how each quantity without an iteration is computed."""
    computed: dict[str, Callable[[], Tensor]] = {
        "color.map_mean": lambda: terms.color_distance(*pair),
        "kl.loss": lambda: KL_WEIGHT * terms.kl_divergence(io["kl.mean_in"], io["kl.logvar_in"]),
        "metric.psnr": lambda: metrics.psnr(*pair).mean(),
        "metric.ssim": lambda: metrics.uniform_ssim(*pair).mean(),
        "metric.code_usage_perplexity": lambda: torch.tensor(
            metrics.codebook_use(metrics.count_tokens(io["metric.code_indices"], VOCABULARY)).perplexity
        ),
    }
    for name in ("windows_in", "unshuffled", "loss"):
        computed[f"consistency.{name}"] = partial(_windows, io, name)
    for number, feature in enumerate(features, start=1):
        computed[f"vgg.relu{number}.mean"] = feature.mean
        computed[f"vgg.relu{number}.std"] = feature.std
        computed[f"vgg.relu{number}.first8"] = partial(_first, feature, 8)
    return computed


def _first(values: Tensor, count: int) -> Tensor:
    """Return the first values of a tensor."""
    return values.flatten()[:count]


def seeded_vgg() -> VGG16Features:
    """Return VGG16 with the weights that `VGG_RULE` describes."""
    network = VGG16Features()
    for number, convolution in enumerate(network.features.values()):
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        weight, bias = convolution.weight, convolution.bias
        drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1000 + number))
        weight.data = drawn * (2 / weight[0].numel()) ** 0.5
        bias.data = 0.05 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(2000 + number))
    return network


def toy_flow(frames_N_3_H_W: Tensor, next_N_3_H_W: Tensor) -> Tensor:
    """Return what the flow network of `FLOW_RULE` makes of two frames."""
    a, b = frames_N_3_H_W, next_N_3_H_W
    return torch.stack([b[:, 0] - a[:, 0], b[:, 1] * a[:, 1]], dim=1)


def _check_iteration(
    case: Case, io: Tensors, name: str, match: re.Match[str], vgg: VGG16Features, features: list[list[Tensor]]
) -> Comparison:
    """Compare a term (or the total) at the iteration that its name says."""
    term, detail, iteration = match["term"], match["detail"], int(match["iteration"])
    config = VideoLossConfig(frames_at_once=0)
    if term != "flow_toy":
        config.flow = Schedule(values=(0.0,))
    loss = VideoLoss(config, vgg=vgg, flow_net=toy_flow)
    batch = len(io["input"])
    if (term, detail) == ("lpips", ".per_frame"):
        by_frame = config.perceptual.weight(iteration) * terms.perceptual_distance(*features)
        value = by_frame.unflatten(0, (batch, -1))
    elif (term, detail) == ("gram", ".per_sample"):
        grams = [[g.unflatten(0, (batch, -1)).mean(dim=1) for g in terms.gram_matrices(f)] for f in features]
        value = config.gram.weight(iteration) * terms.gram_distance(*grams)
    elif detail is None or (term, detail) == ("total", ".grad_recon"):
        reconstruction = io["reconstruction"].clone().requires_grad_()
        found = loss(io["input"], reconstruction, iteration=iteration)
        value = sum(found.values(), torch.zeros(())) if term == "total" else found[term.removesuffix("_toy")]
        if detail:
            torch.autograd.backward(value)
            assert reconstruction.grad is not None
            return compare_kinked(name, reconstruction.grad, io[name], **case.allowed("gradients"))
    else:
        return failed(name, "this project has no such quantity")
    return compare(name, value.detach(), io[name], case.allowed("loss"))


def _windows(io: Tensors, name: str) -> Tensor:
    """Return a quantity of the consistency term; the windows' length, number and step follow from the shapes."""
    cut = io["consistency.windows_in"]
    num_windows, num_frames = len(cut) // len(io["input"]), cut.shape[2]
    step = (io["input"].shape[2] - num_frames) // max(1, num_windows - 1)
    if name == "windows_in":
        return terms.windows(io["input"], num_frames=num_frames, step=step)
    coded = io["consistency.windows_recon"]
    if name == "unshuffled":
        return terms.join_windows(coded, num_windows=num_windows, step=step)
    return terms.consistency_distance(coded, num_windows=num_windows, step=step)


def _tolerance(case: Case, name: str, expected: Tensor) -> dict[str, float]:
    """Return the case's tolerance of a quantity, relative where values are large (dB, perplexity)."""
    if name.startswith("metric."):
        return {**case.allowed("loss"), "rtol": case.allowed("loss")["atol"]}
    return case.allowed("activations" if name.startswith(("vgg.", "consistency.")) else "loss")
