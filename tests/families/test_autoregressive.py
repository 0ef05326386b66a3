import json
from dataclasses import asdict

import pytest
import torch

from cosmos_nemo.checkpoints.commands import export_checkpoint, verify
from cosmos_nemo.checkpoints.convert import load_published_into, published_gradients, published_state_dict
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint, save_imported
from cosmos_nemo.checkpoints.published import read_published
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.errors import UserError
from cosmos_nemo.families import architecture_of
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.models.autoregressive.config import AUTOREGRESSIVE as SIZES
from cosmos_nemo.models.common.adapters import add_adapters, merge_adapters
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.parallel.process import model_parallel_world
from tests.checkpoints.networks import AR, AR_TEXT, AR_TEXT_SPACED, TINY, equal, model_of, random_published
from tests.distributed import run_ranks

NETWORKS = [AR, AR_TEXT, AR_TEXT_SPACED]


@pytest.fixture(scope="module", autouse=True)
def world():
    with model_parallel_world() as world:
        yield world


@pytest.mark.parametrize("fields", NETWORKS)
def test_random_weights_round_trip_bit_for_bit(fields):
    weights = random_published(fields)
    assert all(name.startswith("model.") for name in weights)
    model = model_of(fields)
    load_published_into(model, weights)
    assert equal(published_state_dict(model), weights)


def test_golden_weights_round_trip_bit_for_bit(shared_dir):
    files = sorted((shared_dir / "golden" / "ar_tok").glob("ar_*.weights.safetensors"))
    assert files
    for file in files:
        state = read_published(file)
        model = published_architecture(state).empty_network(dtype=torch.float32)
        load_published_into(model, state)
        assert equal(published_state_dict(model, prefix=""), dict(state))


def test_gradients_are_mapped_like_weights():
    weights, model = random_published(AR_TEXT), model_of(AR_TEXT)
    load_published_into(model, weights)
    for parameter in model.parameters():
        parameter.requires_grad_(True).grad = parameter.detach() * 2
    assert equal(published_gradients(model), {name: 2 * tensor for name, tensor in weights.items()})


@pytest.mark.parametrize("wrapped", [False, True])
def test_wrapped_files_with_extra_state_are_read(tmp_path, wrapped):
    weights = random_published(AR)
    flat = {**weights, "model.layers.0.attention.core_attention._extra_state": torch.zeros(3)}
    content = {"model": flat, "optimizer": {"state": {}}, "grad_scaler": {}, "iteration": 7} if wrapped else flat
    torch.save(content, tmp_path / "model.pt")
    assert equal({f"model.{name}": tensor for name, tensor in read_published(tmp_path / "model.pt").items()}, weights)


@pytest.mark.parametrize("fields", NETWORKS)
def test_the_size_is_read_off_the_shapes(fields):
    found = published_architecture(random_published(fields))
    assert found.fields == {name: fields[name] for name in found.fields}
    known, unstored = set(found.fields), set(found.family.unstored)
    assert set(found.family.fields) - known == unstored, "an unnamed size has more unknowns"


@pytest.mark.parametrize("name", list(SIZES))
def test_a_named_size_gets_what_a_file_does_not_hold(name):
    architecture = architecture_of(SIZES[name]())
    shapes = architecture.published_shapes(Naming.ORIGINAL)
    state = {f"model.{key}": torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert published_architecture(state) == architecture


def test_an_unnamed_size_says_what_is_unknown():
    with pytest.raises(UserError, match=r"of no named size, and a published file does not hold .*YaRN"):
        published_architecture(random_published(AR)).require_known()


def test_the_published_4b_has_its_number_of_parameters():
    shapes = architecture_of(SIZES["4b"]()).our_shapes()
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 4_014_088_192


def test_every_missing_unexpected_and_wrong_shape_key_is_listed():
    weights, model = random_published(AR), model_of(AR)
    wrong = {name: tensor for name, tensor in weights.items() if "feed_forward.w3" not in name}
    wrong["model.layers.1.attention.wx.weight"] = torch.zeros(2)
    wrong["model.layers.2.attention.wo.weight"] = torch.zeros(40, 47)
    with pytest.raises(UserError) as error:
        load_published_into(model, wrong)
    message = str(error.value)
    assert "3 missing, 1 unexpected, 1 of another shape" in message.splitlines()[0]
    assert "missing: layers.{0-2}.feed_forward.w3.weight" in message
    assert "unexpected: layers.1.attention.wx.weight" in message
    assert "shape: layers.2.attention.wo.weight ([40, 47] in the checkpoint, [40, 48] in the model)" in message


def test_another_size_and_another_family_are_said_first():
    with pytest.raises(UserError, match=r"of another model: number of layers 3 in the file, 2 in the recipe"):
        load_published_into(model_of({**AR, "num_layers": 2}), random_published(AR))
    with pytest.raises(UserError, match="holds a Cosmos-Predict2 network and the model is a Cosmos autoregressive one"):
        load_published_into(model_of(AR), random_published(TINY))


def test_there_are_no_diffusers_names():
    with pytest.raises(UserError, match="There are no diffusers names"):
        published_state_dict(model_of(AR), naming="diffusers")


def test_every_parallel_layout_round_trips_bit_for_bit_and_reads_the_others_checkpoint(tmp_path):
    even = {**AR_TEXT, "num_layers": 4}
    weights, odd = random_published(even), {**AR_TEXT_SPACED, "vocab_size": 157, "input_vocab_size": 159}
    cases = (even, weights, odd, random_published(odd))
    for results in run_ranks("tests.checkpoints.ranks:autoregressive_round_trips", 4, *cases, str(tmp_path)):
        assert results and all(results.values()), results
    for run_dir in ("tp4", "tp2_pp2"):
        model = model_of(even)
        load_training_checkpoint(model, tmp_path / run_dir)
        assert equal(published_state_dict(model), weights), f"saved as {run_dir}, read in one process"


def test_a_run_with_adapters_is_verified_and_exported_merged(tmp_path):
    model = model_of(AR)
    load_published_into(model, random_published(AR))
    adapters = LoRA(rank=2)
    add_adapters(model, adapters)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    save_imported(model, tmp_path / "run", lora=asdict(adapters))
    assert verify(tmp_path / "run").startswith("OK")
    merge_adapters(model)
    export_checkpoint(tmp_path / "run", tmp_path / "model.pt")
    merged = torch.load(tmp_path / "model.pt", weights_only=True)
    assert equal(merged, published_state_dict(model)) and not equal(merged, random_published(AR))
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    for lora, message in (
        (None, r"unexpected: .*lora_A"),
        ({**content["lora"], "rank": 3}, r"\[2, 40\] in the checkpoint, \[3, 40\] in the model"),
        ({**content["lora"], "targets": ["q"]}, r"unexpected: .*adapters.fc2.lora_B"),
        ({**content["lora"], "blocks": 2}, r"unexpected: .*layers.2.self_attention.linear_qkv.adapters.q.lora_A"),
    ):
        (tmp_path / "run" / "run.json").write_text(json.dumps({**content, "lora": lora}))
        with pytest.raises(UserError, match=message):
            verify(tmp_path / "run")
