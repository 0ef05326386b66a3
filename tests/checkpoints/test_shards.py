import os
import shutil

import pytest
import torch

from cosmos_nemo.checkpoints.commands import export_checkpoint, import_checkpoint, info, verify
from cosmos_nemo.checkpoints.published import read_published
from cosmos_nemo.checkpoints.shard_commands import merge_checkpoint, shard_checkpoint
from cosmos_nemo.errors import UserError
from tests.checkpoints.networks import AR, AR_TEXT, TINY, equal, name_the_size, random_published


@pytest.fixture(autouse=True)
def named(monkeypatch):
    name_the_size(monkeypatch, AR)


@pytest.fixture
def weights():
    return random_published(AR)


@pytest.fixture
def model(tmp_path, weights):
    torch.save(weights, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(("case", "size"), [("ar_base", 2), ("ar_base", 4), ("ar_yarn", 2), ("ar_cross", 2)])
def test_golden_weights_are_cut_as_upstream_cuts_them(shared_dir, tmp_path, case, size):
    folder = shared_dir / "golden" / "ar_tok"
    whole = tmp_path / "model.pt"
    shard_checkpoint(folder / f"{case}.weights.safetensors", whole, tensor_parallel=size)
    assert sorted(os.listdir(tmp_path)) == [f"model_model_mp_{rank}.pt" for rank in range(size)]
    for rank in range(size):
        golden = read_published(folder / f"{case}.tp{size}.model_mp_{rank}.safetensors")
        assert equal(load(tmp_path / f"model_model_mp_{rank}.pt"), {f"model.{n}": t for n, t in golden.items()})
    merge_checkpoint(whole, whole, tensor_parallel=size)
    golden = read_published(folder / f"{case}.weights.safetensors")
    assert equal(load(whole), {f"model.{n}": t for n, t in golden.items()})


@pytest.mark.parametrize("fields", [AR, AR_TEXT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_what_was_cut_restores_it_bit_for_bit(tmp_path, fields, dtype):
    weights = {name: tensor.to(dtype) for name, tensor in random_published(fields).items()}
    torch.save(weights, tmp_path / "model.pt")
    shard_checkpoint(tmp_path / "model.pt", tensor_parallel=4)
    merge_checkpoint(tmp_path / "model.pt", tmp_path / "again.pt", tensor_parallel=4)
    assert equal(load(tmp_path / "again.pt"), weights) and list(load(tmp_path / "again.pt")) == list(weights)
    each = [(tmp_path / f"model_model_mp_{rank}.pt").stat().st_size for rank in range(4)]
    assert max(each) < 0.4 * (tmp_path / "model.pt").stat().st_size, "a part must not drag the whole storage along"


def test_a_size_that_does_not_divide_names_the_legal_ones(model, tmp_path):
    for size in (3, 8, 0):
        with pytest.raises(UserError, match=rf"--tensor-parallel {size} does not divide .*; use 1, 2 or 4\."):
            shard_checkpoint(model, tensor_parallel=size)
    assert os.listdir(tmp_path) == ["model.pt"]


def test_existing_parts_are_kept_unless_replacing_is_asked_for(model, tmp_path):
    shard_checkpoint(model, tensor_parallel=4)
    with pytest.raises(UserError, match=r"model_model_mp_0\.pt exists already"):
        shard_checkpoint(model, tensor_parallel=2)
    shard_checkpoint(model, tensor_parallel=2, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["model.pt", "model_model_mp_0.pt", "model_model_mp_1.pt"]


def test_predict2_networks_have_no_such_files(tmp_path):
    torch.save(random_published(TINY), tmp_path / "model.pt")
    with pytest.raises(UserError, match="no tensor-parallel files of Cosmos-Predict2 networks"):
        shard_checkpoint(tmp_path / "model.pt", tensor_parallel=2)


def test_a_missing_part_is_named(model, tmp_path):
    shard_checkpoint(model, tensor_parallel=4)
    (tmp_path / "model_model_mp_2.pt").unlink()
    for size in (4, None):
        with pytest.raises(UserError, match=r"model_model_mp_2\.pt is missing"):
            merge_checkpoint(model, tmp_path / "again.pt", tensor_parallel=size)
    with pytest.raises(UserError, match=r"model_model_mp_2\.pt is missing"):
        read_published(tmp_path / "model_model_mp_0.pt")
    with pytest.raises(UserError, match=r"other_model_mp_0\.pt is missing"):
        merge_checkpoint(tmp_path / "other.pt", tmp_path / "again.pt")


def test_a_missing_last_part_is_noticed_without_being_told_their_number(model, tmp_path):
    shard_checkpoint(model, tensor_parallel=4)
    (tmp_path / "model_model_mp_3.pt").unlink()
    with pytest.raises(UserError, match="make up no named size"):
        merge_checkpoint(model, tmp_path / "again.pt")


def test_a_wrong_number_of_parts_is_told(model, tmp_path):
    shard_checkpoint(model, tensor_parallel=4)
    with pytest.raises(UserError, match=r"There are 4 tensor-parallel files .*, not 2: model_model_mp_2\.pt"):
        merge_checkpoint(model, tmp_path / "again.pt", tensor_parallel=2)


def test_parts_of_different_runs_are_told_by_file_and_tensor(model, tmp_path, weights):
    shard_checkpoint(model, tensor_parallel=2)
    other = dict(weights)
    name = "model.layers.1.attention.k_norm.weight"
    other[name] = other[name] + 1e-3
    torch.save(other, tmp_path / "other.pt")
    shard_checkpoint(tmp_path / "other.pt", tensor_parallel=2)
    shutil.copy(tmp_path / "other_model_mp_1.pt", tmp_path / "model_model_mp_1.pt")
    with pytest.raises(UserError, match=r"layers\.1\.attention\.k_norm\.weight differs between model_model_mp_0\.pt"):
        merge_checkpoint(model, tmp_path / "again.pt", tensor_parallel=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part.pop("model.norm.weight"), r"model_mp_0\.pt holds norm\.weight and .*model_mp_1\.pt does"),
        (lambda part: part.update({"model.norm.weight": torch.zeros(3)}), r"norm\.weight is \[40\] float32 in .*\[3\]"),
        (lambda part: part.update({"model.norm.weight": part["model.norm.weight"].bfloat16()}), "bfloat16 in"),
    ],
)
def test_parts_of_different_networks_are_told(model, tmp_path, change, message):
    shard_checkpoint(model, tensor_parallel=2)
    part = load(tmp_path / "model_model_mp_1.pt")
    change(part)
    torch.save(part, tmp_path / "model_model_mp_1.pt")
    with pytest.raises(UserError, match=message):
        merge_checkpoint(model, tmp_path / "again.pt", tensor_parallel=2)
    assert not (tmp_path / "again.pt").exists()


def test_parts_are_imported_without_merging_them_first(model, tmp_path, weights):
    shard_checkpoint(model, tensor_parallel=2)
    model.unlink()
    for source in (model, tmp_path / "model_model_mp_1.pt", tmp_path):
        assert "2 tensor-parallel files" in info(source) and verify(source).startswith("OK")
    import_checkpoint(model, tmp_path / "run")
    export_checkpoint(tmp_path / "run", tmp_path / "again.pt")
    assert equal(load(tmp_path / "again.pt"), weights)


def upstream_run(folder, weights, *, size):
    """The folder that upstream's post-training leaves, with two iterations."""
    folder.mkdir()
    for step, scale in ((500, 0.5), (1000, 1.0)):
        name, flat = f"iter_{step:09d}", {key: tensor * scale for key, tensor in weights.items()}
        trainer = {"grad_scaler": {}, "iteration": step}
        optimizer = {
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}},
            "param_groups": [{"lr": 0.1}],
        }
        if size == 1:
            trainer |= {"model": flat, "optimizer": optimizer, "scheduler": {"last_epoch": step}}
        else:
            torch.save(flat, folder / f"{name}.pt")
            shard_checkpoint(folder / f"{name}.pt", tensor_parallel=size)
            for rank in range(size):
                torch.save(optimizer, folder / f"{name}_optim_mp_{rank}.pt")
        torch.save(trainer, folder / f"{name}.pt")
    (folder / "latest_checkpoint.txt").write_text("iter_000001000.pt\n")


@pytest.mark.parametrize("size", [1, 2])
def test_the_folder_of_an_upstream_run_is_imported(tmp_path, weights, size):
    folder = tmp_path / "base_4b_example" / "checkpoints"
    folder.parent.mkdir()
    upstream_run(folder, weights, size=size)
    older = {name: tensor * 0.5 for name, tensor in weights.items()}
    for source, expected in (
        (folder.parent, weights),
        (folder, weights),
        (folder / "iter_000000500.pt", older),
    ):
        assert equal({f"model.{name}": tensor for name, tensor in read_published(source).items()}, expected)
    (folder / "latest_checkpoint.txt").unlink()
    import_checkpoint(folder.parent, tmp_path / "run")
    export_checkpoint(tmp_path / "run", tmp_path / "model.pt")
    assert equal(load(tmp_path / "model.pt"), weights)


def test_exports_have_the_layout_of_post_training(tmp_path, model, weights):
    import_checkpoint(model, tmp_path / "run")
    export_checkpoint(tmp_path / "run", tmp_path / "out" / "iter_000001000.pt")
    content = load(tmp_path / "out" / "iter_000001000.pt")
    assert equal(content.pop("model"), weights) and content == {"grad_scaler": {}, "iteration": 0}
    export_checkpoint(tmp_path / "run", tmp_path / "tp" / "iter_000001000.pt", tensor_parallel=2)
    assert load(tmp_path / "tp" / "iter_000001000.pt") == {"grad_scaler": {}, "iteration": 0}
    shard_checkpoint(model, tensor_parallel=2)
    for rank in range(2):
        ours = load(tmp_path / "tp" / f"iter_000001000_model_mp_{rank}.pt")
        assert equal(ours, load(tmp_path / f"model_model_mp_{rank}.pt"))
    export_checkpoint(tmp_path / "run", tmp_path / "published" / "model.pt", tensor_parallel=4)
    assert equal(load(tmp_path / "published" / "model.pt"), weights), "upstream wants the whole file beside the parts"
    assert len(os.listdir(tmp_path / "published")) == 5


def test_exporting_to_a_size_that_does_not_divide_writes_nothing(tmp_path, model):
    import_checkpoint(model, tmp_path / "run")
    with pytest.raises(UserError, match="use 1, 2 or 4"):
        export_checkpoint(tmp_path / "run", tmp_path / "out" / "model.pt", tensor_parallel=3)
    assert not (tmp_path / "out").exists()


def test_own_checkpoints_need_no_cutting(tmp_path, model):
    import_checkpoint(model, tmp_path / "run")
    with pytest.raises(UserError, match=r"use cosmos-nemo ckpt export .* --tensor-parallel 2"):
        shard_checkpoint(tmp_path / "run", tensor_parallel=2)
    with pytest.raises(UserError, match=r"is a training checkpoint"):
        merge_checkpoint(tmp_path / "run", tmp_path / "x.pt")
