"""Adapters from a run into files of every form, and from files of every form into a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cosmos_nemo.checkpoints.commands import export_checkpoint, import_checkpoint, info, verify
from cosmos_nemo.checkpoints.convert import load_published_into, published_state_dict
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint, save_imported
from cosmos_nemo.checkpoints.peft_folder import read_adapter_file
from cosmos_nemo.errors import UserError
from cosmos_nemo.models.common.adapters import merge_adapters, without_adapters
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.process import model_parallel_world
from tests.checkpoints.networks import (
    AR,
    BUFFERS,
    TINY_NAMED,
    architecture_of,
    equal,
    model_of,
    name_the_size,
    random_published,
)
from tests.models.adapted import adapt

LORA = LoRA(rank=3, alpha=6.0, targets=("self_attn", "fc2"))


@pytest.fixture(scope="module", autouse=True)
def world() -> Any:
    with model_parallel_world() as world:
        yield world


@dataclasses.dataclass
class Trained:
    """A run with adapters, and what it should give."""

    run: Path
    base: dict[str, Tensor]
    """Weights under published names."""
    merged: dict[str, Tensor]
    folder: Path
    """For the test's own files."""


@pytest.fixture(params=["predict2", "autoregressive"])
def trained(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    fields = {"predict2": TINY_NAMED, "autoregressive": AR}[request.param]
    name_the_size(monkeypatch, AR)
    base = random_published(fields)
    network = model_of(fields)
    load_published_into(network, base)
    adapt(network, LORA)
    save_imported(network, tmp_path / "run", lora=dataclasses.asdict(LORA), initial_weights="base.pt")
    merge_adapters(network)
    merged = {name: tensor.clone() for name, tensor in published_state_dict(network).items()}
    assert not equal(base, merged)
    return Trained(run=tmp_path / "run", base=base, merged=merged, folder=tmp_path)


def published(run: Path, **options: Any) -> dict[str, Tensor]:
    """What a run gives under published names."""
    return {name: tensor.clone() for name, tensor in published_state_dict(opened(run, **options)).items()}


def opened(run: Path, **options: Any) -> Any:
    from cosmos_nemo.checkpoints.megatron import run_architecture
    from cosmos_nemo.runs.layout import find_checkpoint

    network = run_architecture(find_checkpoint(run)).empty_network(dtype=torch.float32)
    load_training_checkpoint(network, run, **options)
    return network


def test_a_run_opens_merged_live_or_without(trained: Trained) -> None:
    assert equal(published(trained.run), trained.merged)
    assert equal(published(trained.run, adapters="left out"), trained.base)
    network = opened(trained.run, adapters="live")
    with without_adapters(network):
        assert equal(published_state_dict(network), trained.base)
    merge_adapters(network)
    assert equal(published_state_dict(network), trained.merged)


def test_adapters_alone_and_their_base_make_the_same_run(trained: Trained) -> None:
    adapters, base, again = (trained.folder / name for name in ("adapters", "base.pt", "again"))
    message = export_checkpoint(trained.run, adapters, adapters="only")
    assert "adapters of rank 3 (alpha 6)" in message
    torch.save(trained.base, base)
    message = import_checkpoint(adapters, again, base=base)
    assert (
        message == f"Imported adapters of rank 3 (alpha 6) from {adapters}, beside the weights of {base}, into {again}."
    )
    assert equal(published(again), trained.merged) and equal(published(again, adapters="left out"), trained.base)
    assert verify(again).startswith("OK")
    export_checkpoint(again, trained.folder / "adapters2", adapters="only")
    first, second = (read_adapter_file(trained.folder / name).matrices for name in ("adapters", "adapters2"))
    assert equal(first.down, second.down) and equal(first.up, second.up)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_and_adapters_in_one_file_make_the_same_run(trained: Trained, suffix: str) -> None:
    file, again = trained.folder / f"both{suffix}", trained.folder / "again"
    assert export_checkpoint(trained.run, file, adapters="beside").endswith("; the file does not hold alpha.")
    state = torch.load(file, weights_only=True) if suffix == ".pt" else load_file(file)
    assert any(name.endswith(".base_layer.weight") for name in state)
    assert "and adapters of rank 3, all finite" in verify(file)
    assert "of rank 3, beside the weights" in info(file)
    import_checkpoint(file, again, alpha=6.0)
    assert equal(published(again), trained.merged) and equal(published(again, adapters="left out"), trained.base)
    import_checkpoint(file, trained.folder / "weaker", alpha=3.0)
    assert not equal(published(trained.folder / "weaker"), trained.merged)


@pytest.mark.parametrize("trained", ["predict2"], indirect=True)
def test_one_file_has_upstreams_names_and_is_read_with_upstreams_buffers(trained: Trained) -> None:
    file = trained.folder / "both.pt"
    export_checkpoint(trained.run, file, adapters="beside")
    state, q = torch.load(file, weights_only=True), "net.blocks.0.self_attn.q_proj"
    assert {f"{q}.base_layer.weight", f"{q}.lora_A.default.weight", f"{q}.lora_B.default.weight"} <= state.keys()
    assert f"{q}.weight" not in state and "net.blocks.0.mlp.layer1.weight" in state
    torch.save(state | BUFFERS, trained.folder / "upstream.pt")
    import_checkpoint(trained.folder / "upstream.pt", trained.folder / "again", alpha=6.0)
    assert equal(published(trained.folder / "again"), trained.merged)


def test_what_is_missing_is_asked_for(trained: Trained) -> None:
    adapters, both, target = trained.folder / "adapters", trained.folder / "both.pt", trained.folder / "again"
    export_checkpoint(trained.run, adapters, adapters="only")
    export_checkpoint(trained.run, both, adapters="beside")
    with pytest.raises(UserError, match="holds adapters alone; give the weights that they belong to with --base"):
        import_checkpoint(adapters, target)
    with pytest.raises(UserError, match="does not say the alpha of its adapters; give it with --alpha"):
        import_checkpoint(both, target)
    (adapters / "adapter_config.json").unlink()
    with pytest.raises(UserError, match="does not say the alpha of its adapters"):
        import_checkpoint(adapters, target, base=trained.run)
    with pytest.raises(UserError, match="holds adapters beside the weights and does not say their alpha"):
        export_checkpoint(both, trained.folder / "merged.pt")
    assert not target.exists()


def test_what_makes_no_sense_is_refused(trained: Trained) -> None:
    adapters, plain, target = trained.folder / "adapters", trained.folder / "plain.pt", trained.folder / "again"
    export_checkpoint(trained.run, adapters, adapters="only")
    torch.save(trained.base, plain)
    with pytest.raises(UserError, match="says alpha 6, and --alpha 3 was given; leave out --alpha"):
        import_checkpoint(adapters, target, base=plain, alpha=3.0)
    with pytest.raises(UserError, match="holds no adapters: leave out --alpha"):
        import_checkpoint(plain, target, alpha=3.0)
    with pytest.raises(UserError, match="holds weights of its own: leave out --base"):
        import_checkpoint(plain, target, base=plain)
    with pytest.raises(UserError, match="is no run with adapters: leave out --adapters only"):
        export_checkpoint(plain, target, adapters="only")
    with pytest.raises(UserError, match="--adapters only writes a folder"):
        export_checkpoint(trained.run, trained.folder / "a.pt", adapters="only")
    with pytest.raises(UserError, match="--adapters beside writes one file"):
        export_checkpoint(trained.run, trained.folder / "a", adapters="beside")
    with pytest.raises(UserError, match="--adapters apart is unknown; use merged, only, beside"):
        export_checkpoint(trained.run, trained.folder / "a", adapters="apart")
    with pytest.raises(UserError, match="Tensor-parallel files hold merged weights"):
        export_checkpoint(trained.run, trained.folder / "a.pt", adapters="beside", tensor_parallel=2)
    assert not target.exists()


def test_adapters_of_another_network_are_refused(trained: Trained) -> None:
    adapters, other = trained.folder / "adapters", trained.folder / "other"
    export_checkpoint(trained.run, adapters, adapters="only")
    fields = {**(TINY_NAMED if "net.blocks.0.mlp.layer1.weight" in trained.base else AR), "num_layers": 2}
    save_imported(model_of(fields), other)
    with pytest.raises(UserError, match=r"holds adapters of another network than .*: num_layers \d there, 2 here"):
        import_checkpoint(adapters, trained.folder / "again", base=other)
    state = load_file(adapters / "adapter_model.safetensors")
    save_file(state, adapters / "adapter_model.safetensors")  # the header does not say any more what they belong to
    with pytest.raises(UserError, match="holds adapters of another network: this one has no"):
        import_checkpoint(adapters, trained.folder / "again", base=other)


def test_averaged_adapters_and_other_dtypes_are_written(trained: Trained) -> None:
    export_checkpoint(trained.run, trained.folder / "adapters", adapters="only", dtype="bfloat16")
    matrices = read_adapter_file(trained.folder / "adapters").matrices
    assert {tensor.dtype for tensor in matrices.down.values()} == {torch.bfloat16}
    with pytest.raises(UserError, match="holds no averaged weights"):
        export_checkpoint(trained.run, trained.folder / "averaged", adapters="only", ema=True)
    assert not (trained.folder / "averaged").exists()


def test_files_of_adapters_are_verified_and_described(trained: Trained) -> None:
    adapters = trained.folder / "adapters"
    export_checkpoint(trained.run, adapters, adapters="only")
    maps = len(architecture_of(TINY_NAMED if "net.blocks.0.mlp.layer1.weight" in trained.base else AR).adapted(LORA))
    assert verify(adapters).startswith(f"OK {adapters}: adapters of rank 3 on {maps} linear maps, all finite, for ")
    for path, name, value in ((adapters, "alpha", "6"), (trained.run, "adapters", "adapters of rank 3 (alpha 6)")):
        assert dict(line.split(maxsplit=1) for line in info(path).splitlines())[name] == value
    file = adapters / "adapter_model.safetensors"
    state = load_file(file)
    save_file({name: torch.zeros_like(t) if "lora_B" in name else t for name, t in state.items()}, file)
    assert verify(adapters).endswith("; every B is zero: no effect.")
    save_file({name: t / 0 for name, t in state.items()}, file)
    with pytest.raises(UserError, match="holds NaN or infinite values in"):
        verify(adapters)
