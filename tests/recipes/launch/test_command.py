"""The launch layer: one line and exit code 1 for what is wrong, the job's exit code for the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cosmos_nemo import catalog
from recipes.launch import command as launch

pytestmark = pytest.mark.nemo


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "nemo_run"))
    monkeypatch.chdir(tmp_path)


def test_without_a_name_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main([]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(catalog.RECIPES)


TP = "trainer.strategy.tensor_model_parallel_size"
PP = "trainer.strategy.pipeline_model_parallel_size"
CP = "trainer.strategy.context_parallel_size"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "cosmos_v2w_tinny",
            "no recipe 'cosmos_v2w_tinny': did you mean cosmos_v2w_tiny? recipes are cosmos_v2w_tiny,",
        ),
        ("cosmos_v2w_tiny --frob", "unrecognized arguments: --frob"),
        ("cosmos_v2w_tiny frob", "'frob' is not key=value"),
        ("cosmos_v2w_tiny trainer.max_step=2", "(did you mean trainer.max_steps?); trainer has accelerator, strategy,"),
        ("cosmos_v2w_tiny max_steps=2", "(did you mean trainer.max_steps?); a recipe has model, data, trainer, optim,"),
        ("cosmos_v2w_tiny trainer.strategy.tensor_model_paralel_size=2", f"(did you mean {TP}?)"),
        ("cosmos_v2w_tiny model.config.num_layer=2", "(did you mean model.config.num_layers?)"),
        ("cosmos_v2w_tiny trainer.max_steps=ten", "trainer.max_steps=ten: needs a whole number"),
        ("cosmos_v2w_tiny log.wandb=yes", "log.wandb=yes: needs one of off, online, offline"),
        (f"cosmos_v2w_tiny trainer.devices=3 {TP}=3", "does not divide num_attention_heads (4)"),
        (
            f"cosmos_v2w_tiny trainer.devices=8 {CP}=8",
            "context_parallel_size=8 does not divide num_attention_heads of a tensor-parallel rank (4); use 1, 2 or 4",
        ),
        (f"cosmos_v2w_tiny {TP}=2", "trainer.strategy: tensor_model_parallel_size=2 does not divide 1 process"),
        (f"cosmos_ar_tiny {PP}=2", "pipeline_model_parallel_size=2 does not divide 1 process; use"),
        (f"cosmos_v2w_14b {TP}=3", "does not divide 8 processes; use tensor_model_parallel_size=1, 2, 4 or 8"),
        (
            f"cosmos_v2w_14b {TP}=0",
            "trainer.strategy: tensor_model_parallel_size=0: needs a whole number of at least 1",
        ),
        ("cosmos_v2w_2b data.global_batch_size=6", "data.micro_batch_size=1 x 4 data-parallel ranks; use 4 or 8"),
        ("cosmos_v2w_tiny trainer.strategy.sequence_parallel=true", "needs tensor_model_parallel_size > 1"),
        ("cosmos_v2w_tiny optim.config.lr=0", "optim.config.lr=0"),
        ("cosmos_v2w_tiny trainer.max_steps=0", "trainer.max_steps=0"),
        ("cosmos_v2w_tiny optim.lr_scheduler.warm_up_steps=[200]", "does not end within trainer.max_steps=100"),
        ("cosmos_v2w_tiny", "data.path is not set"),
        ("cosmos_v2w_tiny data.path=missing", "data.path=missing does not exist"),
        (
            "cosmos_tokenizer_cv_tiny model.model=Cosmos-1.0-Tokenizer-DV8x16x16",
            "a DV8x16x16 tokenizer, and model.network",
        ),
        ("cosmos_tokenizer_cv_tiny model.model=CV", "model.model: video tokenizer 'CV' is not one of"),
        ("cosmos_v2w_tiny run.executor=nowhere", "run.executor=nowhere: executors are local"),
        ("cosmos_v2w_tiny run.executer=local", "no field 'run.executer'; run has executor, which may be local"),
        ("cosmos_v2w_tiny run.executor.nodes=2", "run.executor.nodes=2 needs run.executor=NAME as well"),
        ("cosmos_v2w_tiny run.executor=local run.executor.ntasks_per_nod=2", "(did you mean ntasks_per_node?)"),
        ("cosmos_v2w_tiny trainer.num_nodes=2", "start torchrun --nnodes 2 -m recipes NAME ... on every node"),
        (
            "cosmos_v2w_tiny run.executor=local run.executor.ntasks_per_node=2 trainer.devices=4",
            "trainer.devices=4, but run.executor starts 2",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    assert launch.main(line.split()) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_gpu_recipe_without_a_gpu_says_so_before_processes_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes import executors
    from recipes.launch import checks

    monkeypatch.setattr(checks, "inputs", lambda task: None)
    monkeypatch.setattr(executors, "cuda_device_count", lambda: 0)
    assert launch.main(["cosmos_v2w_14b", "data.path=x"]) == 1
    assert "needs CUDA GPUs and there are none here" in capsys.readouterr().err
    monkeypatch.setattr(executors, "cuda_device_count", lambda: 4)
    assert launch.main(["cosmos_v2w_14b", "data.path=x"]) == 1
    assert "trainer.devices=8, but there are 4 GPUs here" in capsys.readouterr().err


def test_dry_run_shows_the_division_and_every_value_and_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        launch.main(["cosmos_v2w_14b", "--dryrun", f"{TP}=4", "data.global_batch_size=8", "optim.config.lr=2**-15"])
        == 0
    )
    out = capsys.readouterr().out
    assert "processes    8 = tensor 4 x context 1 x data 2" in out
    assert "global batch 8 = micro batch 1 x data 2 x accumulation 4" in out
    assert "lr: 3.0517578125e-05" in out
    assert "would not start here: data.path is not set" in out
    assert "torchrun" in out


def test_names_of_the_published_tokenizer_guide_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    words = "model.jit_ckpt_pth=CKPT model.model=Cosmos-1.0-Tokenizer-CV8x8x8 data.path=DATA trainer.max_epochs=3"
    assert launch.main(["cosmos_tokenizer_cv8x8x8", *words.split(), "optim.config.lr=1e-5", "--dryrun"]) == 0
    out = capsys.readouterr().out
    for line in ("jit_ckpt_pth: CKPT", "path: DATA", "max_epochs: 3", "max_steps: -1", "lr: 1.0e-05"):
        assert line in out


@pytest.mark.parametrize("words", [["run.executor=local", "trainer.devices=2"], ["trainer.devices=2"]])
def test_local_executor_starts_as_many_processes_as_the_recipe_has_devices(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert launch.main(["cosmos_v2w_tiny", "--dryrun", *words]) == 0
    out = capsys.readouterr().out
    assert "runs         1 x 2 processes, torchrun, LocalExecutor" in out
    assert "processes    2 = tensor 1 x context 1 x data 2" in out


def test_exported_yaml_loads_to_the_same_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["trainer.max_steps=7", "model.config.num_layers=2", "log.name=mine"]
    assert launch.main(["cosmos_v2w_2b", *words, "--to-yaml", "a.yaml"]) == 0
    assert launch.main(["cosmos_v2w_2b", "--yaml", "a.yaml", "--to-yaml", "b.yaml"]) == 0
    first, second = (tmp_path / name for name in ("a.yaml", "b.yaml"))
    assert first.read_text().splitlines()[1:] == second.read_text().splitlines()[1:]
    assert "max_steps: 7" in first.read_text()
    task, _ = launch.resolve("cosmos_v2w_2b", ["trainer.max_steps=8"], yaml_file=str(first))
    assert (task.trainer.max_steps, task.model.config.num_layers, task.log.name) == (8, 2, "mine")


def test_torchrun_decides_the_number_of_devices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert launch.main(["cosmos_v2w_tiny", "--dryrun", f"{TP}=2"]) == 0
    out = capsys.readouterr().out
    assert "processes    4 = tensor 2 x context 1 x data 2" in out
    assert "  devices: 2\n" in out
    assert "  num_nodes: 2\n" in out
    assert launch.main(["cosmos_v2w_tiny", "trainer.devices=3"]) == 1
    assert "trainer.devices=3, but torchrun starts 2" in capsys.readouterr().err


def test_failed_job_of_the_local_executor_ends_with_an_error(
    capsys: pytest.CaptureFixture[str], repo_root: Path
) -> None:
    """NeMo-Run's own command exits with 0 here. The ranks fail because there is no such recipe."""
    program = (
        "import sys; from recipes import executors; from recipes.launch import command as launch; "
        "sys.exit(launch.submit('failing', ['no_such_recipe'], executors.local(2)))"
    )
    Path("program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "program.py"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert result.returncode == 1, result.stderr
    assert "error: no recipe 'no_such_recipe'" in result.stdout + result.stderr
    assert "error: failing FAILED; its log is in" in result.stderr


def test_nemo_run_command_needs_no_terminal(repo_root: Path) -> None:
    command = Path(sys.executable).with_name("nemo")
    if not command.exists():
        pytest.skip("the `nemo` command is not beside this Python")
    result = subprocess.run(
        [command, "run", "recipe", "cosmos_v2w_tiny", "--dryrun", "trainer.max_steps=3"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "max_steps: 3" in result.stdout


def test_nemo_run_group_lists_runs_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    import typer
    from typer.testing import CliRunner

    from recipes import nemo_run_cli

    group = typer.Typer()
    for entry in catalog.ENTRIES:
        nemo_run_cli.RecipeCommand(lambda: None, namespace="run.recipe", name=entry.name).cli(group)
    listed = CliRunner().invoke(group, [])
    assert listed.exit_code == 0
    assert listed.stdout == catalog.listing() + "\n"
    unknown = CliRunner().invoke(group, ["cosmos_v2w_tinny"])
    assert unknown.exit_code == 1
    assert "did you mean cosmos_v2w_tiny?" in unknown.output
    wrong = CliRunner().invoke(group, ["cosmos_v2w_tiny", "--dryrun", "trainer.max_steps=ten"])
    assert wrong.exit_code == 1
    assert "needs a whole number" in wrong.output
