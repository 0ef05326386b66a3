import json
import os
import shutil

import pytest
import torch

from cosmos_nemo.checkpoints.commands import export_checkpoint, import_checkpoint, info, verify
from cosmos_nemo.checkpoints.convert import published_state_dict
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint
from cosmos_nemo.checkpoints.published import read_published
from cosmos_nemo.errors import UserError
from cosmos_nemo.parallel.process import model_parallel_world
from tests.checkpoints.networks import BUFFERS, TINY, TINY_NAMED, equal, model_of, random_published


@pytest.fixture(scope="module")
def weights():
    return random_published(TINY_NAMED)


@pytest.fixture(scope="module")
def published(tmp_path_factory, weights):
    file = tmp_path_factory.mktemp("published") / "model.pt"
    torch.save({**weights, **BUFFERS}, file)
    return file


@pytest.fixture(scope="module")
def imported(tmp_path_factory, published):
    run_dir = tmp_path_factory.mktemp("imported") / "run"
    assert "87 tensors" in import_checkpoint(published, run_dir)
    return run_dir


def test_import_then_export_gives_the_published_file_back(tmp_path, imported, weights):
    message = export_checkpoint(imported, tmp_path / "out.pt")
    assert "87 tensors" in message and "step 0" in message
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert equal(state, weights), "with the prefix, and without the buffers"


def test_export_to_diffusers_loads_strictly_there_and_comes_back(tmp_path, imported, weights):
    from diffusers import CosmosTransformer3DModel

    export_checkpoint(imported, tmp_path / "peer", format="diffusers")
    model, loading = CosmosTransformer3DModel.from_pretrained(tmp_path / "peer", output_loading_info=True)
    assert not any(loading.values())
    assert model.config.num_layers == 4 and model.config.in_channels == 17
    assert list(model.config.rope_scale) == [1.0, 1.0, 1.0] and model.config.extra_pos_embed_type is None
    export_checkpoint(tmp_path / "peer", tmp_path / "back.safetensors")
    bare = {name.removeprefix("net."): tensor for name, tensor in weights.items()}
    assert equal(read_published(tmp_path / "back.safetensors"), bare)


def test_export_casts_on_request(tmp_path, imported, weights):
    export_checkpoint(imported, tmp_path / "half.pt", dtype="bf16")
    state = torch.load(tmp_path / "half.pt", weights_only=True)
    assert equal(state, {name: tensor.bfloat16() for name, tensor in weights.items()})
    assert "bfloat16" in info(tmp_path / "half.pt")


def test_bfloat16_weights_stay_so_and_load_exactly_into_float32(tmp_path, published, weights):
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}
    import_checkpoint(published, tmp_path / "run", dtype="bfloat16")
    export_checkpoint(tmp_path / "run", tmp_path / "out.pt")
    assert equal(torch.load(tmp_path / "out.pt", weights_only=True), half)
    with model_parallel_world():
        model = model_of(TINY_NAMED)
        load_training_checkpoint(model, tmp_path / "run")
        assert equal(published_state_dict(model), {name: tensor.float() for name, tensor in half.items()})


def test_a_pt_file_holds_each_tensor_once(tmp_path, imported, weights):
    export_checkpoint(imported, tmp_path / "out.pt")
    size = sum(tensor.numel() * 4 for tensor in weights.values())
    assert (tmp_path / "out.pt").stat().st_size < 1.1 * size


def test_existing_targets_are_refused_and_left_alone(tmp_path, published, imported):
    target = tmp_path / "out.pt"
    target.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        export_checkpoint(imported, target)
    with pytest.raises(UserError, match="exists already"):
        import_checkpoint(published, target)
    assert target.read_text() == "precious" and os.listdir(tmp_path) == ["out.pt"]
    export_checkpoint(imported, target, overwrite=True)
    assert os.listdir(tmp_path) == ["out.pt"] and target.stat().st_size > 1000


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("folder", {}, r"end it with \.pt"),
        ("x.pt", {"format": "diffusers"}, r"drop the suffix \.pt"),
        ("x.pt", {"format": "megatron"}, "use original or diffusers"),
        ("x.pt", {"dtype": "int4"}, "use one of float32, bfloat16, float16"),
    ],
)
def test_wrong_options_are_told_with_the_legal_values(tmp_path, imported, target, options, message):
    with pytest.raises(UserError, match=message):
        export_checkpoint(imported, tmp_path / target, **options)
    assert not os.listdir(tmp_path)


def test_a_truncated_source_leaves_nothing_behind(tmp_path, published):
    cut = tmp_path / "cut.pt"
    cut.write_bytes(published.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cut\.pt cannot be read"):
        import_checkpoint(cut, tmp_path / "run")
    assert os.listdir(tmp_path) == ["cut.pt"]


def test_a_truncated_training_checkpoint_is_found(tmp_path, published):
    run_dir = tmp_path / "run"
    import_checkpoint(published, run_dir)
    file = next(run_dir.glob("checkpoints/iter_000000000/weights/*.distcp"))
    size = file.stat().st_size
    os.truncate(file, size // 2)
    for command in (verify, info):
        with pytest.raises(UserError, match=rf"\.distcp has {size // 2} bytes, {size} expected"):
            command(run_dir)
    with pytest.raises(UserError, match="truncated or damaged"):
        export_checkpoint(run_dir, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_weights_of_no_named_size_say_what_is_unknown(tmp_path):
    torch.save(random_published(TINY), tmp_path / "odd.pt")
    with pytest.raises(UserError, match="RoPE"):
        import_checkpoint(tmp_path / "odd.pt", tmp_path / "run")


def test_verify_finds_missing_tensors_and_values_that_are_not_finite(tmp_path, weights, published, imported):
    assert verify(published).startswith("OK") and verify(imported).startswith("OK")
    name = "net.blocks.2.mlp.layer1.weight"
    torch.save({key: value for key, value in weights.items() if key != name}, tmp_path / "less.pt")
    with pytest.raises(UserError, match=r"missing: blocks\.2\.mlp\.layer1\.weight"):
        verify(tmp_path / "less.pt")
    torch.save({**weights, name: weights[name] / 0}, tmp_path / "nan.pt")
    with pytest.raises(UserError, match=r"NaN or infinite values in blocks\.2\.mlp\.layer1\.weight"):
        verify(tmp_path / "nan.pt")


def test_verify_compares_a_training_checkpoint_with_its_run_json(tmp_path, published):
    run_dir = tmp_path / "run"
    import_checkpoint(published, run_dir)
    run = json.loads((run_dir / "run.json").read_text())
    run["model"]["num_layers"] = 5
    (run_dir / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match=r"missing: module\.blocks\.4\.mlp\.linear_fc1\.weight"):
        verify(run_dir)


def test_info_names_task_size_and_step(imported, published):
    for path in (imported, published):
        text = info(path)
        assert "video2world" in text and "hidden_size" in text and "1,275,520 in" in text
    assert "training checkpoint" in info(imported)
    assert "original names" in info(published)


def test_verify_looks_at_every_checkpoint_of_a_run(tmp_path, published):
    run_dir = tmp_path / "run"
    import_checkpoint(published, run_dir)
    shutil.copytree(run_dir / "checkpoints" / "iter_000000000", run_dir / "checkpoints" / "iter_000000005")
    assert verify(run_dir).count("OK") == 2
    next((run_dir / "checkpoints" / "iter_000000005" / "weights").glob("*.distcp")).unlink()
    with pytest.raises(UserError, match=r"iter_000000005/weights/.*\.distcp is missing"):
        verify(run_dir)
    assert "step" in info(run_dir), "the older one can still be used"
