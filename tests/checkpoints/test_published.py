import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from cosmos_nemo import families
from cosmos_nemo.checkpoints.published import read_published, select_network
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.rows import Naming
from tests.checkpoints.networks import BUFFERS, TINY, equal, random_published


@pytest.fixture(scope="module")
def weights():
    return random_published(TINY)


@pytest.fixture(scope="module")
def bare(weights):
    return {name.removeprefix("net."): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_reads_every_file_format_and_strips_the_prefix(tmp_path, weights, bare, suffix):
    file = tmp_path / f"model{suffix}"
    save_file(weights, file) if suffix == ".safetensors" else torch.save(weights, file)
    assert equal(read_published(file), bare)


def test_reads_files_in_the_old_torch_format(tmp_path, weights, bare):
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert equal(read_published(tmp_path / "old.pt"), bare)


@pytest.mark.parametrize("wrappers", [["model"], ["module"], ["state_dict"], ["state_dict", "model"]])
def test_unwraps_nested_dictionaries(tmp_path, weights, bare, wrappers):
    nested = weights
    for name in wrappers:
        nested = {name: nested, "step": 7}
    torch.save(nested, tmp_path / "wrapped.pt")
    assert equal(read_published(tmp_path / "wrapped.pt"), bare)


def test_reads_a_sharded_index_through_its_folder(tmp_path, bare):
    names = sorted(bare)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in shards.items():
        save_file({key: bare[key] for key in keys}, tmp_path / file)
    index = {"weight_map": {key: file for file, keys in shards.items() for key in keys}}
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert equal(read_published(tmp_path), bare)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"not there: b\.safetensors"):
        read_published(tmp_path)


def test_ignores_the_published_buffers_and_nothing_else(weights, bare):
    assert equal(select_network({**weights, **BUFFERS}), bare)
    others = {"net.accum_other": torch.zeros(1), "net.pos_embedder.other": torch.zeros(1), "logvar.0": torch.zeros(1)}
    kept = select_network({**weights, **others})
    assert set(kept) - set(bare) == {"accum_other", "pos_embedder.other", "logvar.0"}


def test_takes_the_averaged_weights_only_when_asked(weights, bare):
    averaged = {name.replace("net.", "net_ema."): tensor + 1 for name, tensor in weights.items()}
    both = {**weights, **averaged}
    assert equal(select_network(both), bare)
    assert equal(select_network(both, ema=True), {name: tensor + 1 for name, tensor in bare.items()})


def test_says_when_there_are_no_averaged_weights(tmp_path, weights):
    torch.save(weights, tmp_path / "plain.pt")
    with pytest.raises(UserError, match=r"plain\.pt holds no averaged \(EMA\) weights"):
        read_published(tmp_path / "plain.pt", ema=True)


def test_selecting_twice_changes_nothing(weights, bare):
    assert equal(select_network(select_network(weights)), bare)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 40, -100])
def test_a_truncated_file_is_named(tmp_path, weights, suffix, kept):
    file = tmp_path / f"cut{suffix}"
    save_file(weights, file) if suffix == ".safetensors" else torch.save(weights, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"cut\{suffix} cannot be read") as error:
        read_published(file)
    assert "\n" not in str(error.value)


def test_never_runs_code_from_a_file(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    (tmp_path / "bomb.pt").write_bytes(pickle.dumps({"net.a": Bomb()}))
    torch.save({"net.a": Bomb()}, tmp_path / "bomb2.pt")
    for name in ("bomb.pt", "bomb2.pt"):
        with pytest.raises(UserError, match="cannot be read"):
            read_published(tmp_path / name)


def test_a_missing_file_lists_what_is_there(tmp_path):
    (tmp_path / "model-720p-16fps.pt").touch()
    with pytest.raises(UserError, match=r"model-720p-16fps\.pt"):
        read_published(tmp_path / "model.pt")


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"net.a": 3}, tmp_path / "number.pt")
    torch.save({}, tmp_path / "empty.pt")
    for name, reason in (("list", "not a state dict"), ("number", "not a tensor"), ("empty", "no network weights")):
        with pytest.raises(UserError, match=reason):
            read_published(tmp_path / f"{name}.pt")


def test_recognises_both_families_of_names(bare):
    names = families.of_published(bare).names
    assert names.naming(bare) is Naming.ORIGINAL
    assert names.naming(random_published(TINY, naming=Naming.DIFFUSERS)) is Naming.DIFFUSERS
