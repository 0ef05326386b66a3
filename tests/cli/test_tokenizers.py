"""Commands about tokenizers hand their options to their room."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cosmos_nemo import cli
from cosmos_nemo.inference.tokenizer_options import LatentStatisticsOptions, ReconstructOptions


def test_reconstruct_passes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from cosmos_nemo.inference import reconstruct

    seen = []
    monkeypatch.setattr(reconstruct, "reconstruct", lambda options: seen.append(options) or "done")
    result = CliRunner().invoke(cli.app, ["reconstruct", "in.mp4", "out.mp4", "--tokenizer", "dv", "--max-frames", "9"])
    assert (result.exit_code, result.stdout) == (0, "done\n")
    expected = {"input": Path("in.mp4"), "output": Path("out.mp4"), "tokenizer": Path("dv")}
    assert seen == [ReconstructOptions(**expected, max_frames=9)]


def test_latent_statistics_passes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from cosmos_nemo.inference import latent_statistics

    seen = []
    monkeypatch.setattr(latent_statistics, "write_latent_statistics", lambda options: seen.append(options) or "done")
    result = CliRunner().invoke(cli.app, ["latent-statistics", "cv", "a", "b.mp4", "--overwrite"])
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert seen == [LatentStatisticsOptions(tokenizer=Path("cv"), videos=[Path("a"), Path("b.mp4")], overwrite=True)]
