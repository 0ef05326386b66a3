"""What each rank runs in the training tests: real NeMo, real Megatron-core, a tiny network on random latents."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.platform.install import install
from tests.distributed import free_port

STEPS = 6
_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_WORLD = {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def fit(shards: str, root: str, name: str, **changes: Any) -> int | None:
    """Trains a small DiT as run `name` below `root`; returns the exit code if training was stopped.

    Args:
        shards: data folder.
        root: output root.
        name: name of the run.
        **changes: see the first lines, and `run`.
    """

    def parts() -> tuple[Any, Any]:
        from cosmos_nemo.diffusion.predict2 import Predict2Objective
        from cosmos_nemo.lightning.data import EnergonDataModule
        from cosmos_nemo.lightning.diffusion import DiTModule
        from cosmos_nemo.models.dit.config import Predict2Video2WorldTinyConfig

        data = {"micro_batch_size": 1, "global_batch_size": 2, "num_workers": 0, "text_length": 8}
        model = changes.get("module", DiTModule)(
            Predict2Video2WorldTinyConfig(**({"num_layers": 2} | changes.get("model", {}))),
            Predict2Objective(state_t=3),
            seed=7,
            **({"ema_rate": 0.1} | changes.get("weights", {})),
        )
        return model, EnergonDataModule(path=shards, **(data | changes.get("data", {})))

    return run(parts, root, name, **changes)


def run(parts: Callable[[], tuple[Any, Any]], root: str, name: str, **changes: Any) -> int | None:
    """Trains what `parts` makes, a module and its data, as run `name` below `root`."""
    new_world(root)
    install(nemo=True)
    import nemo.lightning as nl

    from cosmos_nemo.lightning.optim import LambdaLinear, UniformDecayOptimizer
    from cosmos_nemo.lightning.train import train
    from cosmos_nemo.runs.log import RunLog
    from cosmos_nemo.runs.start import Resume
    from tests.lightning.optimizer import adamw

    trainer = nl.Trainer(
        accelerator="cpu",
        devices=int(os.environ["WORLD_SIZE"]),
        max_steps=changes.get("max_steps", STEPS),
        max_epochs=changes.get("max_epochs"),
        log_every_n_steps=2,
        val_check_interval=2,
        callbacks=changes.get("callbacks"),
        plugins=[nl.MegatronMixedPrecision("bf16-mixed", params_dtype=torch.bfloat16)] if changes.get("bf16") else None,
        strategy=nl.MegatronStrategy(**({"ckpt_load_strictness": "raise_all"} | changes.get("strategy", {}))),
    )
    model, data = parts()
    schedule = changes.get("schedule") or LambdaLinear(f_max=[0.6], f_min=[0.1])
    try:
        train(
            model=model,
            data=data,
            trainer=trainer,
            optim=UniformDecayOptimizer(adamw(lr=changes.get("lr", 1e-3)), schedule),
            log=RunLog(
                project="p", group="g", name=name, output_root=root, save_every_n_steps=3, **changes.get("log", {})
            ),
            resume=Resume(**changes.get("resume", {})),
        )
    except SystemExit as stop:
        return stop.code
    return None


def new_world(root: str) -> None:
    """A meeting point of its own for the next run of this process."""
    # Lightning takes these variables away when a run ends. Each run meets at a port of its own, which rank 0 finds: a
    # rank that is early must not find the meeting point of the run before.
    os.environ.update(_WORLD)
    _WORLD["RUNS"] = str(int(_WORLD.get("RUNS", "0")) + 1)
    meeting = Path(root) / f"port_{_WORLD['WORLD_SIZE']}_{_WORLD['RUNS']}"
    if _WORLD["RANK"] == "0":
        meeting.parent.mkdir(parents=True, exist_ok=True)
        meeting.with_suffix(".tmp").write_text(str(free_port()))
        meeting.with_suffix(".tmp").rename(meeting)
    while not meeting.exists():
        time.sleep(0.02)
    os.environ["MASTER_PORT"] = meeting.read_text()


def refused(*arguments: Any, start: Callable[..., Any] = fit, **changes: Any) -> str:
    """The message of the `UserError` that training ends with."""
    try:
        start(*arguments, **changes)
    except UserError as error:
        forget_groups()
        return str(error)
    raise AssertionError("was accepted")


def forget_groups() -> None:
    """Leave the process group and Megatron's groups, if there are any."""
    from megatron.core import parallel_state

    if torch.distributed.is_initialized():
        parallel_state.destroy_model_parallel()
        torch.distributed.destroy_process_group()


def at_step(step: int, act: Callable[[Any], None]) -> list[Any]:
    """A callback that acts at the end of an optimizer step, before anything is saved."""
    import lightning.pytorch as pl

    class Act(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == step:
                act(trainer)

    return [Act()]


def terminated(step: int = 4) -> list[Any]:
    """A callback that sends this process a SIGTERM in step 4, one step after a checkpoint."""
    return at_step(step, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))


def killed(shards: str, root: str, name: str) -> None:
    """Dies of SIGKILL in step 5, two steps after a checkpoint."""
    fit(shards, root, name, callbacks=at_step(5, lambda trainer: os.kill(os.getpid(), signal.SIGKILL)))


def one_process(shards: str, root: str) -> dict[str, Any]:
    """Everything that needs one process; the run `killed` is already there."""
    install(nemo=True)
    seen: dict[str, Any] = {}
    fit(shards, root, "straight", log={"wandb": "offline"})
    fit(shards, root, "killed")
    seen["code_after_sigterm"] = fit(shards, root, "terminated", callbacks=terminated())
    seen["latest_after_sigterm"] = (Path(root) / "p/g/terminated/checkpoints/latest_checkpoint.txt").read_text()
    fit(shards, root, "terminated")
    fit(shards, root, "workers", data={"num_workers": 2}, log={"keep_last_k": 1})
    fit(shards, root, "workers_cut", data={"num_workers": 2}, callbacks=terminated())
    fit(shards, root, "workers_cut", data={"num_workers": 2})
    fit(shards, root, "bf16", bf16=True)

    runs = Path(root) / "p/g"
    shutil.copytree(runs / "straight", runs / "damaged")
    truncated = next((runs / "damaged/checkpoints/iter_000000006/weights").glob("*.distcp"))
    truncated.write_bytes(truncated.read_bytes()[:-1])
    seen["truncated"] = refused(shards, root, "other", resume={"path": str(truncated.parent.parent)})
    seen["other_left_nothing"] = not (runs / "other").exists()
    fit(shards, root, "damaged", log={"keep_last_k": 1})
    shutil.copytree(runs / "straight", runs / "slower")
    back = str(runs / "slower/checkpoints/iter_000000003")
    fit(shards, root, "slower", resume={"path": back}, lr=1e-4, max_steps=4, log={"keep_last_k": 1})

    seen["missing"] = refused(shards, root, "other", resume={"path": str(runs / "nosuch")})
    seen["size"] = refused(shards, root, "straight", model={"num_layers": 3}, max_steps=9)
    seen["exists"] = refused(shards, root, "straight", resume={"resume_if_exists": False})
    seen["diverged"] = refused(shards, root, "diverged", lr=1e30)
    seen["exact_again"] = refused(shards, root, "straight", max_steps=8, data={"num_workers": 1})
    seen["full"] = _with_a_full_disk(lambda: refused(shards, root, "full", callbacks=at_step(4, _fill_the_disk)))
    seen["full_left"] = sorted(path.name for path in (runs / "full/checkpoints").iterdir())
    from_straight = {"dit_path": str(runs / "straight"), "ema_rate": None}
    seen["weights_of_another_size"] = refused(shards, root, "other", weights=from_straight, model={"num_layers": 3})
    seen["without_average"] = refused(shards, root, "straight", max_steps=9, weights={"ema_rate": None})
    history: list[dict[str, torch.Tensor]] = []
    record = recorded(history)
    fit(shards, root, "from_weights", weights=from_straight | {"ema_decay": 0.75}, max_steps=2, callbacks=record)
    seen["average_is_wrong_by"] = _average_error(root, history)
    seen |= _partly_frozen(shards, root)
    fit(shards, root, "lora", weights=adapters(root), max_steps=3)
    fit(shards, root, "lora", weights=adapters(root))
    seen["other_adapters"] = refused(shards, root, "lora", weights=adapters(root, rank=4), max_steps=9)
    fit(str(Path(shards).parent / "embedded_elsewhere"), root, "embedded_elsewhere", max_steps=1)
    seen["fresh_weights"] = _fresh_weights(root)
    seen["loaded"] = _loads_without_nemo(root, runs / "straight")
    return seen


def adapters(root: str, *, rank: int = 2) -> dict[str, Any]:
    """Arguments of a module that trains adapters on the run `straight`."""
    from cosmos_nemo.models.common.lora import LoRA

    return {"dit_path": f"{root}/p/g/straight", "lora": LoRA(rank=rank)}


def recorded(history: list[dict[str, torch.Tensor]]) -> list[Any]:
    """A callback that keeps copies of the weights before the first step and after each one."""
    import lightning.pytorch as pl

    class Record(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.on_train_batch_end(trainer, pl_module)

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            named = pl_module.module.named_parameters()
            history.append({name.split("module.")[-1]: p.detach().clone() for name, p in named})

    return [Record()]


def _average_error(root: str, history: list[dict[str, torch.Tensor]]) -> float:
    """Largest deviation of the saved average from its definition with a decay of 0.75."""
    saved = weights(Path(root), "from_weights", step=2)
    start, first, second = history
    expected = {
        name: 0.75 * (0.75 * start[name] + 0.25 * first[name]) + 0.25 * second[name]
        for name in start
        if "blocks." not in name  # these are stacked in the checkpoint
    }
    return max(float((saved[f"ema.{name}"] - value).abs().max()) for name, value in expected.items())


def _partly_frozen(shards: str, root: str) -> dict[str, Any]:
    from cosmos_nemo.lightning.diffusion import DiTModule

    class OneLayer(DiTModule):
        def adapt(self, network: Any) -> Any:
            network.requires_grad_(False)
            network.final.requires_grad_(True)
            return network

    class Detached(DiTModule):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs) * 0.0

    fit(shards, root, "frozen", module=OneLayer, max_steps=3)
    fit(shards, root, "frozen", module=OneLayer)
    return {"zero_gradient": refused(shards, root, "zero", module=Detached, max_steps=1)}


def _fresh_weights(root: str) -> dict[str, list[float]]:
    """Some fresh weights of every family by the seed of the run, and by a seed of the network's own."""
    from megatron.core import parallel_state

    from cosmos_nemo.diffusion.predict2 import Predict2Objective
    from cosmos_nemo.lightning.autoregressive import ARModule
    from cosmos_nemo.lightning.diffusion import DiTModule
    from cosmos_nemo.lightning.tokenizer import TokenizerModule
    from cosmos_nemo.models.autoregressive.config import ARTinyConfig
    from cosmos_nemo.models.autoregressive.loss import NextTokenObjective
    from cosmos_nemo.models.dit.config import Predict2Video2WorldTinyConfig
    from cosmos_nemo.tokenizers.cosmos.config import TinyDV8x16x16Config

    def dit(seed: int, **own: Any) -> Any:
        return DiTModule(Predict2Video2WorldTinyConfig(num_layers=1, **own), Predict2Objective(state_t=3), seed=seed)

    def autoregressive(seed: int, **own: Any) -> Any:
        return ARModule(ARTinyConfig(num_layers=1, vocab_size=64, **own), NextTokenObjective(), seed=seed)

    modules = {
        "dit 1": dit(1),
        "dit 2": dit(2),
        "dit 1 own 2": dit(1, init_seed=2),
        "ar 1": autoregressive(1),
        "ar 2": autoregressive(2),
        "ar 1 own 2": autoregressive(1, init_seed=2),
        "tokenizer 1": TokenizerModule("Cosmos-1.0-Tokenizer-DV8x16x16", TinyDV8x16x16Config(), seed=1),
        "tokenizer 2": TokenizerModule("Cosmos-1.0-Tokenizer-DV8x16x16", TinyDV8x16x16Config(), seed=2),
    }
    new_world(root)
    torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel()
    found = {}
    for name, module in modules.items():
        module.configure_model()
        weight = max(module.parameters(), key=lambda parameter: parameter.ndim * parameter.numel())
        found[name] = weight.flatten()[:9].tolist()
    forget_groups()
    return found


def _fill_the_disk(trainer: Any) -> None:
    """Writing a file beyond 100 kB fails from now on, as it does on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _with_a_full_disk(run: Callable[[], str]) -> str:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        return run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def _loads_without_nemo(root: str, run: Path) -> bool:
    from megatron.core import parallel_state

    from cosmos_nemo.checkpoints import convert, megatron
    from cosmos_nemo.models.dit.config import Predict2Video2WorldTinyConfig
    from cosmos_nemo.models.dit.model import DiT

    new_world(root)
    torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel()
    model = DiT(Predict2Video2WorldTinyConfig(num_layers=2))
    before = convert.published_state_dict(model)["net.x_embedder.proj.1.weight"].clone()
    info = megatron.load_training_checkpoint(model, run)
    after = convert.published_state_dict(model)["net.x_embedder.proj.1.weight"].clone()
    megatron.load_training_checkpoint(model, run, ema=True)
    average = convert.published_state_dict(model)["net.x_embedder.proj.1.weight"]
    forget_groups()
    return info.step == STEPS and len({tuple(w.flatten().tolist()) for w in (before, after, average)}) == 3


def two_processes(shards: str, root: str) -> dict[str, Any]:
    """Everything that needs two processes; the run `straight` of one process is already there."""
    install(nemo=True)
    runs = Path(root) / "p/g"
    fit(shards, root, "data2", data={"num_workers": 1})
    starts = {"tensor2": "straight", "context2": "straight", "lora_tensor2": "lora"}
    copy_starts({runs / copy: runs / run for copy, run in starts.items()}, Path(root) / "copied")
    parallel = {"tensor_model_parallel_size": 2, "sequence_parallel": True}
    fit(shards, root, "tensor2", strategy=parallel)
    fit(shards, root, "lora_tensor2", strategy=parallel, weights=adapters(root))
    fit(shards, root, "context2", strategy={"context_parallel_size": 2})
    resume = {"path": str(runs / "straight/checkpoints/iter_000000003")}
    seen = {"redistribution": refused(shards, root, "wider", resume=resume)}
    seen["indivisible"] = refused(shards, root, "odd", strategy={"tensor_model_parallel_size": 4})
    seen["batch"] = refused(shards, root, "odd", data={"global_batch_size": 3})
    return seen


def copy_starts(copies: dict[Path, Path], marker: Path) -> None:
    """Makes runs of the first checkpoints of others, which are of step 3; rank 0 does it, the others wait."""
    if os.environ["RANK"] == "0":
        for copy, run in copies.items():
            shutil.copytree(run / "checkpoints/iter_000000003", copy / "checkpoints/iter_000000003")
            shutil.copy(run / "run.json", copy)
        marker.touch()
    while not marker.exists():
        time.sleep(0.05)


def rows(root: Path, name: str) -> list[dict[str, Any]]:
    """The metrics of a run, without what depends on the machine."""
    lines = (root / "p/g" / name / "metrics.jsonl").read_text().splitlines()
    kept = ("step", "loss", "val_loss", "lr", "grad_norm", "consumed_samples")
    return [{key: row[key] for key in kept if key in row} for row in map(json.loads, lines)]


def weights(root: Path, name: str, step: int = STEPS) -> dict[str, torch.Tensor]:
    """Every tensor of a run's checkpoint, the optimizer's included."""
    import torch.distributed.checkpoint as dcp

    folder = str(root / "p/g" / name / "checkpoints" / f"iter_{step:09d}" / "weights")
    metadata = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    state = {key: torch.empty(m.size, dtype=m.properties.dtype) for key, m in metadata.items() if hasattr(m, "size")}
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    return state
