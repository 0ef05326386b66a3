import pytest
import torch

from cosmos_nemo.checkpoints.convert import load_published_into, published_gradients, published_state_dict
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint
from cosmos_nemo.checkpoints.published import read_published
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.parallel.process import model_parallel_world
from tests.checkpoints.networks import (
    BUFFERS,
    TINY,
    TINY_NAMED,
    equal,
    golden_weights,
    model_of,
    random_published,
)
from tests.distributed import run_ranks


@pytest.fixture(scope="module", autouse=True)
def world():
    with model_parallel_world() as world:
        yield world


@pytest.fixture(scope="module")
def weights():
    return random_published(TINY)


@pytest.fixture
def loaded(weights):
    model = model_of(TINY)
    load_published_into(model, weights)
    return model


def forward(model):
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(1, 16, 2, 6, 4, generator=generator), torch.randn(1, 5, 40, generator=generator)
    mask = torch.zeros(1, 1, 2, 6, 4)
    mask[:, :, :1] = 1
    return model(x, torch.tensor([[0.1, 0.7]]), text, mask)


def test_golden_weights_round_trip_bit_for_bit_under_both_names(shared_dir):
    pairs = golden_weights(shared_dir)
    assert pairs
    for original, peer in pairs:
        state = read_published(original)
        model = published_architecture(state).empty_network(dtype=torch.float32)
        load_published_into(model, state)
        assert equal(published_state_dict(model, prefix=""), state)
        if peer is not None:
            diffusers = read_published(peer)
            assert equal(published_state_dict(model, naming=Naming.DIFFUSERS), diffusers)
            other = published_architecture(diffusers).empty_network(dtype=torch.float32)
            load_published_into(other, diffusers)
            assert equal(published_state_dict(other, prefix=""), state)


def test_random_weights_round_trip_bit_for_bit(loaded, weights):
    assert equal(published_state_dict(loaded), weights)


def test_bfloat16_weights_round_trip_bit_for_bit(weights):
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}
    model = model_of(TINY).bfloat16()
    load_published_into(model, half)
    assert equal(published_state_dict(model), half)


def test_published_buffers_are_ignored(loaded, weights):
    model = model_of(TINY)
    load_published_into(model, {**weights, **BUFFERS})
    assert equal(published_state_dict(model), published_state_dict(loaded))


def test_every_tensor_reaches_the_output(loaded, weights):
    """Negative control: a table that lost or swapped a tensor would pass a mere round trip."""
    before = forward(loaded)
    for name, tensor in weights.items():
        changed = model_of(TINY)
        load_published_into(changed, {**weights, name: tensor + 0.1 * torch.randn_like(tensor)})
        assert not torch.equal(forward(changed), before), name


@pytest.mark.parametrize("sub_layer", ["self_attn", "cross_attn"])
def test_swapped_queries_and_keys_give_another_output(loaded, sub_layer):
    weights = published_state_dict(loaded)
    a, b = ("q_proj", "k_proj") if sub_layer == "self_attn" else ("v_proj", "k_proj")
    first, second = (f"net.blocks.0.{sub_layer}.{name}.weight" for name in (a, b))
    swapped = model_of(TINY)
    load_published_into(swapped, {**weights, first: weights[second], second: weights[first]})
    assert not torch.allclose(forward(swapped), forward(loaded))


def test_every_missing_unexpected_and_wrong_shape_key_is_listed(loaded, weights):
    wrong = {name: tensor + 1 for name, tensor in weights.items() if "mlp.layer1" not in name}
    wrong["net.blocks.1.mlp.layer3.weight"] = torch.zeros(2)
    wrong["net.final_layer.linear.weight"] = torch.zeros(64, 95)
    with pytest.raises(UserError) as error:
        load_published_into(loaded, wrong)
    message = str(error.value)
    assert "2 missing, 1 unexpected, 1 of another shape" in message.splitlines()[0]
    assert "missing: blocks.{0-1}.mlp.layer1.weight" in message
    assert "unexpected: blocks.1.mlp.layer3.weight" in message
    assert "shape: final_layer.linear.weight ([64, 95] in the checkpoint, [64, 96] in the model)" in message
    assert equal(published_state_dict(loaded), weights), "nothing may be copied when something is wrong"


def test_another_model_size_is_said_first(weights):
    with pytest.raises(UserError) as error:
        load_published_into(model_of(TINY_NAMED), weights)
    first = str(error.value).splitlines()[0]
    assert first.startswith("The checkpoint is of another model: number of blocks 2 in the file, 4 in the recipe;")
    assert "hidden size 96 in the file, 128 in the recipe" in first


def test_a_video_checkpoint_does_not_fit_an_image_model(weights):
    with pytest.raises(UserError, match="condition-mask channel \\(Video2World\\) yes in the file, no in the recipe"):
        load_published_into(model_of({**TINY, "video_condition": False}), weights)


def test_a_reason1_text_projection_is_explained(weights):
    projection = {"net.crossattn_proj.0.weight": torch.zeros(2, 2), "net.crossattn_proj.0.bias": torch.zeros(2)}
    with pytest.raises(UserError, match="Cosmos-Reason1"):
        load_published_into(model_of(TINY), {**weights, **projection})


def test_the_prefix_can_be_chosen(loaded):
    assert all(name.startswith("net.") for name in published_state_dict(loaded))
    assert not any(name.startswith("net.") for name in published_state_dict(loaded, prefix=""))
    diffusers = published_state_dict(loaded, naming="diffusers")
    assert "transformer_blocks.0.attn1.to_q.weight" in diffusers


def test_gradients_are_mapped_like_weights(loaded, weights):
    for parameter in loaded.parameters():
        parameter.requires_grad_(True).grad = parameter.detach() * 2
    assert equal(published_gradients(loaded), {name: 2 * tensor for name, tensor in weights.items()})
    for parameter in loaded.parameters():
        parameter.main_grad = parameter.detach() * 3
    assert equal(published_gradients(loaded), {name: 3 * tensor for name, tensor in weights.items()})


def test_a_parameter_without_gradient_is_named(loaded):
    with pytest.raises(UserError, match=r"No gradient for .*final\.linear\.weight"):
        published_gradients(loaded)


@pytest.mark.parametrize("naming", list(Naming))
def test_the_size_is_read_off_the_shapes(naming):
    found = published_architecture(random_published(TINY, naming=naming)).fields
    assert found == {name: value for name, value in TINY.items() if name in found}
    assert "rope_t_extrapolation_ratio" not in found, "an unnamed size has unknown RoPE ratios"


def test_a_named_size_gets_its_rope_ratios():
    state = {name: tensor.to("meta") for name, tensor in random_published(TINY_NAMED).items()}
    assert published_architecture(state).fields["rope_h_extrapolation_ratio"] == 1.0


def test_two_tensor_parallel_ranks_round_trip_bit_for_bit(tmp_path, weights):
    run_dir = tmp_path / "run"
    for results in run_ranks("tests.checkpoints.ranks:round_trips", 2, TINY, weights, str(run_dir)):
        assert results and all(results.values()), results
    model = model_of(TINY)
    load_training_checkpoint(model, run_dir)
    assert equal(published_state_dict(model), weights), "saved at TP 2, read at TP 1"
