"""`cosmos-nemo ckpt` passes its options on."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cosmos_nemo import cli


@pytest.mark.parametrize(
    ("command", "function", "expected"),
    [
        (
            ["ckpt", "import", "a.pt", "run", "--ema", "--dtype", "bfloat16"],
            "import_checkpoint",
            (
                (Path("a.pt"), Path("run")),
                {"base": None, "alpha": None, "ema": True, "dtype": "bfloat16", "overwrite": False},
            ),
        ),
        (
            ["ckpt", "import", "adapters", "run", "--base", "a.pt", "--alpha", "8"],
            "import_checkpoint",
            (
                (Path("adapters"), Path("run")),
                {"base": Path("a.pt"), "alpha": 8.0, "ema": False, "dtype": None, "overwrite": False},
            ),
        ),
        (
            ["ckpt", "export", "run", "b.pt", "--tensor-parallel", "4", "--overwrite"],
            "export_checkpoint",
            (
                (Path("run"), Path("b.pt")),
                {
                    **{"format": "original", "adapters": "merged", "tensor_parallel": 4},
                    **{"ema": False, "dtype": None, "overwrite": True},
                },
            ),
        ),
        (
            ["ckpt", "shard", "a.pt", "--tensor-parallel", "4", "--target", "b.pt"],
            "shard_checkpoint",
            ((Path("a.pt"), Path("b.pt")), {"tensor_parallel": 4, "overwrite": False}),
        ),
        (
            ["ckpt", "merge", "a.pt", "b.pt"],
            "merge_checkpoint",
            ((Path("a.pt"), Path("b.pt")), {"tensor_parallel": None, "overwrite": False}),
        ),
        (["ckpt", "verify", "run"], "verify", ((Path("run"),), {"ema": False})),
        (["ckpt", "info", "run"], "info", ((Path("run"),), {"ema": False})),
    ],
)
def test_ckpt_commands_pass_their_options(
    monkeypatch: pytest.MonkeyPatch, command: list[str], function: str, expected: tuple
) -> None:
    from cosmos_nemo.checkpoints import commands, shard_commands

    seen = []
    module = commands if hasattr(commands, function) else shard_commands
    monkeypatch.setattr(module, function, lambda *args, **kwargs: seen.append((args, kwargs)) or "done")
    result = CliRunner().invoke(cli.app, command)
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert seen == [expected]


@pytest.mark.parametrize("same", [True, False])
def test_diff_tells_by_its_exit_code(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    from cosmos_nemo.checkpoints import diff

    monkeypatch.setattr(diff, "diff", lambda a, b, **kwargs: ("text", same))
    result = CliRunner().invoke(cli.app, ["ckpt", "diff", "a", "b"])
    assert (result.exit_code, result.stdout) == (0 if same else 1, "text\n")
