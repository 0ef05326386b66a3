import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.cosmos.jit import export_jit
from cosmos_nemo.tokenizers.cosmos.weights import load_network, load_weights
from tests.tokenizers.cosmos.clips import clip, random_network, tiny_config

FILES = ("encoder.jit", "decoder.jit", "autoencoder.jit")


@pytest.fixture(autouse=True)
def _without_optimization():
    """Optimizing a traced network for a size takes longer than these tests run it."""
    with torch.jit.optimized_execution(False):
        yield


@pytest.fixture(params=["cv", "dv"])
def one(exported_tokenizers, request):
    """A config, its network and the folder that it was exported to."""
    return exported_tokenizers[request.param]


@torch.no_grad()
def test_files_compute_what_the_network_computes_at_any_size(one):
    config, network, folder = one
    encoder, decoder, autoencoder = (torch.jit.load(str(folder / name)) for name in FILES)
    for video in (clip(17), clip(1, batch=2), clip(25, 64, 32, batch=2)):
        expected = network(video)
        encoded = encoder(video)
        if config.discrete:
            indices, codes, loss = encoded
            assert indices.dtype == torch.int32
            assert torch.equal(indices, expected.indices_B_T_H_W)
            torch.testing.assert_close(codes, expected.latent_B_C_T_H_W)
            assert not loss.any()
        else:
            latent, (mean, log_variance) = encoded
            torch.testing.assert_close(latent, expected.latent_B_C_T_H_W, atol=1e-5, rtol=1e-5)
            assert not mean.any() and not log_variance.any()
        tolerance = {"atol": 1e-4, "rtol": 1e-4}
        torch.testing.assert_close(decoder(encoded[0]), expected.video_B_3_T_H_W, **tolerance)
        reconstruction, *rest = autoencoder(video)
        torch.testing.assert_close(reconstruction, expected.video_B_3_T_H_W, **tolerance)
        assert len(rest) == 2
        assert torch.equal(rest[1], encoded[0])


@torch.no_grad()
def test_jit_to_module_to_jit_changes_nothing(one, tmp_path):
    config, network, folder = one
    found, loaded = load_network(folder)
    assert found.sizes() == config.sizes()
    assert loaded.training and all(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    export_jit(loaded, found, tmp_path)
    video = clip(9)
    for name in ("encoder.jit", "autoencoder.jit"):
        before, after = (torch.jit.load(str(place / name)) for place in (folder, tmp_path))
        assert before.state_dict().keys() == after.state_dict().keys()
        assert torch.equal(before(video)[0], after(video)[0])


def test_encoder_and_decoder_files_are_enough(one, tmp_path):
    config, network, folder = one
    for name in ("encoder.jit", "decoder.jit"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found, loaded = load_network(tmp_path)
    assert found.sizes() == config.sizes()
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())
    (tmp_path / "decoder.jit").unlink()
    with pytest.raises(UserError, match=r"only encoder\.jit"):
        load_network(tmp_path)


def test_exports_in_bfloat16_without_touching_the_network(tmp_path):
    config = tiny_config()
    network = random_network(config).train()
    export_jit(network, config, tmp_path, dtype=torch.bfloat16)
    assert network.training and next(network.parameters()).dtype == torch.float32
    assert next(load_network(tmp_path)[1].parameters()).dtype == torch.bfloat16
    assert next(load_network(tmp_path, dtype=torch.float32)[1].parameters()).dtype == torch.float32


def test_the_other_kind_is_refused(one):
    config, _, folder = one
    expected = tiny_config(discrete=not config.discrete)
    with pytest.raises(UserError, match=rf"holds a {config.name}.*not the {expected.name}"):
        load_network(folder, expected=expected)


def test_weights_that_do_not_fit_are_named():
    network = random_network(tiny_config())
    state = network.state_dict()
    missing = {name: tensor for name, tensor in state.items() if name != "quant_conv.conv3d.bias"}
    with pytest.raises(UserError, match=r"1 missing \(quant_conv.conv3d.bias\)"):
        load_weights(network, missing, source="x")
    with pytest.raises(UserError, match=r"1 unexpected \(other\)"):
        load_weights(network, {**state, "other": torch.zeros(1)}, source="x")
    broken = {**state, "quant_conv.conv3d.bias": torch.full((16,), float("nan"))}
    with pytest.raises(UserError, match=r"1 NaN or infinite \(quant_conv.conv3d.bias\)"):
        load_weights(network, broken, source="x")


def test_unused_convolutions_of_other_implementations_are_left_out(tmp_path):
    """Some write convolutions at levels that do not resample; the size asked for settles which are used."""
    config = tiny_config()
    network = random_network(config)
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for module in ("encoder.down.1.downsample", "decoder.up.2.upsample"):
        for number, kernel in enumerate(((1, 3, 3), (3, 1, 1), (1, 1, 1)), start=1):
            state[f"network.{module}.conv{number}.conv3d.weight"] = torch.randn(16, 16, *kernel)
            state[f"network.{module}.conv{number}.conv3d.bias"] = torch.randn(16)
    torch.save({"model": state}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="say which size"):
        load_network(tmp_path / "model.pt")
    found, loaded = load_network(tmp_path / "model.pt", expected=config)
    assert found.sizes() == config.sizes()
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_training_files_hold_plain_and_averaged_weights(tmp_path):
    config = tiny_config()
    plain, averaged = random_network(config, seed=0), random_network(config, seed=1)
    model = {f"network.{name}": tensor for name, tensor in plain.state_dict().items()}
    model |= {f"ema.network-{n.replace('.', '-')}": tensor for n, tensor in averaged.state_dict().items()}
    model["loss.lpips.shift"] = torch.zeros(3)
    torch.save({"model": model, "iteration": 5}, tmp_path / "iter_000000005.pt")
    for ema, network in ((False, plain), (True, averaged)):
        _, loaded = load_network(tmp_path / "iter_000000005.pt", ema=ema)
        assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())


def test_files_that_are_no_tokenizer_are_refused(tmp_path):
    with pytest.raises(UserError, match="neither"):
        load_network(tmp_path)
    (tmp_path / "autoencoder.jit").write_bytes(b"not a zip file")
    with pytest.raises(UserError, match="cannot be read as a TorchScript file"):
        load_network(tmp_path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "autoencoder.jit"))
    with pytest.raises(UserError, match="does not hold a Cosmos video tokenizer"):
        load_network(tmp_path)
