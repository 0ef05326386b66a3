"""Draw the loss of one or several runs from their `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cosmos_nemo.files import staged
from cosmos_nemo.runs.metrics import read_metrics


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return, for each value, the mean of the last `window` values (of fewer at the start).

    The diffusion loss of one step depends mostly on the noise level drawn for it, so that only an
    average over many steps shows whether the model learns.
    """
    means = []
    for end in range(1, len(values) + 1):
        last = values[max(0, end - window) : end]
        means.append(sum(last) / len(last))
    return means


def plot_loss(run_dirs: Sequence[Path], output: Path, window: int | None = None) -> dict[str, tuple[float, float]]:
    """Write a PNG with the loss of each run and its running mean.

    Args:
        run_dirs: run folders that hold `metrics.jsonl`.
        output: the PNG.
        window: steps of the running mean; if None, a tenth of the run, at least 5.

    Returns:
        for each run's name the mean loss of the first and of the last window.

    Raises:
        UserError: see `read_metrics`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    summary = {}
    for run_dir in run_dirs:
        rows = [row for row in read_metrics(run_dir) if "loss" in row]
        steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
        width = window or max(5, len(losses) // 10)
        name = (run_dir.parent if run_dir.suffix == ".jsonl" else run_dir).name
        means = running_mean(losses, width)
        (line,) = axes.plot(steps, means, label=f"{name} (mean of {width} steps)", linewidth=2)
        axes.plot(steps, losses, color=line.get_color(), alpha=0.25, linewidth=0.8)
        validation = [(row["step"], row["val_loss"]) for row in read_metrics(run_dir) if "val_loss" in row]
        if validation:
            axes.plot(*zip(*validation, strict=True), "o--", color="black", markersize=4, label=f"{name} validation")
        summary[name] = (sum(losses[:width]) / len(losses[:width]), means[-1])
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.set_yscale("log")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    with staged(output, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
    return summary
