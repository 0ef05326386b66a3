import pytest
import torch

from cosmos_nemo.checkpoints import commands
from cosmos_nemo.checkpoints.tokenizer import load_run
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.cosmos.jit import write_mean_std
from cosmos_nemo.tokenizers.cosmos.weights import load_network, read_jit


@pytest.fixture(scope="module")
def run(exported_tokenizers, tmp_path_factory):
    """A run folder with the weights of the continuous tokenizer."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    printed = commands.import_checkpoint(exported_tokenizers["cv"][2], folder)
    assert "CV8x8x8" in printed
    return folder


def test_a_run_is_exported_to_the_files_it_was_imported_from(exported_tokenizers, run, tmp_path):
    _, network, folder = exported_tokenizers["cv"]
    loaded = load_run(run)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())
    target = tmp_path / "exported"
    printed = commands.export_checkpoint(run, target)
    assert "CV8x8x8" in printed and "step 0" in printed
    for name in ("encoder.jit", "decoder.jit", "autoencoder.jit"):
        before, after = read_jit(folder / name), read_jit(target / name)
        assert list(before) == list(after)
        assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    with pytest.raises(UserError, match="exists already"):
        commands.export_checkpoint(run, target)
    with pytest.raises(UserError, match="name a folder"):
        commands.export_checkpoint(run, tmp_path / "model.pt")
    with pytest.raises(UserError, match="no averaged"):
        commands.export_checkpoint(run, tmp_path / "ema", ema=True)


def test_statistics_go_along_when_files_are_cast(exported_tokenizers, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "autoencoder.jit").write_bytes((exported_tokenizers["cv"][2] / "autoencoder.jit").read_bytes())
    write_mean_std(source, (torch.zeros(16, 16), torch.ones(16, 16)))
    assert "mean_std.pt" in commands.export_checkpoint(source, target, dtype="bfloat16")
    assert next(load_network(target)[1].parameters()).dtype == torch.bfloat16
    assert "normalised by mean_std.pt" in commands.info(target)
    assert "mean_std.pt" in commands.verify(target)


@pytest.mark.parametrize("kind", ["cv", "dv"])
def test_files_are_verified_and_described(exported_tokenizers, kind, tmp_path):
    config, network, folder = exported_tokenizers[kind]
    assert commands.verify(folder).startswith(f"OK {folder}: autoencoder.jit, encoder.jit, decoder.jit; ")
    described = commands.info(folder)
    assert config.name in described and f"{sum(p.numel() for p in network.parameters()):,}" in described
    other = exported_tokenizers["cv" if kind == "dv" else "dv"][2]
    for name in ("autoencoder.jit", "encoder.jit"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "decoder.jit").write_bytes((other / "decoder.jit").read_bytes())
    with pytest.raises(UserError, match=r"decoder\.jit does not hold the weights of autoencoder\.jit"):
        commands.verify(tmp_path)


def test_a_run_is_verified_and_described(run):
    assert commands.verify(run).startswith("OK ")
    assert "CV8x8x8" in commands.info(run)
    weights = next((run / "checkpoints").glob("iter_*/weights/*.distcp"))
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1])
        with pytest.raises(UserError):
            commands.verify(run)
    finally:
        weights.write_bytes(content)
