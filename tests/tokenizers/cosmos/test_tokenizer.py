import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.cosmos.jit import write_mean_std
from cosmos_nemo.tokenizers.cosmos.pieces import Limits
from cosmos_nemo.tokenizers.cosmos.tokenizer import (
    ContinuousVideoTokenizer,
    DiscreteTokenizer,
    latent_statistics,
    load_cosmos_tokenizer,
)
from cosmos_nemo.tokenizers.load import find_video_tokenizer, is_discrete, load_video_tokenizer
from cosmos_nemo.tokenizers.tiny import write_tiny_wan
from tests.tokenizers.cosmos.clips import clip, random_network, tiny_config


@pytest.fixture(scope="module")
def folders(exported_tokenizers, tmp_path_factory):
    """One folder of each kind of tokenizer."""
    wan = write_tiny_wan(tmp_path_factory.mktemp("tokenizers") / "wan", seed=0)
    return {"wan": wan, **{kind: folder for kind, (_, _, folder) in exported_tokenizers.items()}}


def test_every_kind_is_recognised_and_coded(folders):
    video = clip(17, batch=2)
    for name, folder in folders.items():
        tokenizer = load_video_tokenizer(folder)
        assert is_discrete(tokenizer) == (name == "dv")
        assert tokenizer.files == find_video_tokenizer(folder)
        code = tokenizer.encode(video)
        scale = tokenizer.spatial_compression
        assert code.shape[-3:] == (tokenizer.latent_frames(17), 32 // scale, 48 // scale)
        assert torch.equal(code, tokenizer.encode(video))
        decoded = tokenizer.decode(code)
        assert decoded.shape == video.shape and decoded.dtype == torch.float32
        assert decoded.abs().max() <= 1


def test_a_continuous_tokenizer_normalises_per_channel_and_frame(folders, tmp_path):
    plain = load_cosmos_tokenizer(folders["cv"])
    assert not plain.normalised
    mean, std = torch.randn(16, 16), torch.rand(16, 16) + 0.5
    (tmp_path / "autoencoder.jit").write_bytes((folders["cv"] / "autoencoder.jit").read_bytes())
    write_mean_std(tmp_path, (mean, std))
    tokenizer = load_cosmos_tokenizer(tmp_path)
    assert tokenizer.normalised and (tmp_path / "mean_std.pt") in tokenizer.files
    raw, latent = plain.encode(clip(17)), tokenizer.encode(clip(17))
    rounded_mean, rounded_std = (t.to(torch.bfloat16).float()[:, :3, None, None] for t in (mean, std))
    torch.testing.assert_close(latent, (raw - rounded_mean) / rounded_std)
    torch.testing.assert_close(tokenizer.decode(latent), plain.decode(raw), atol=1e-4, rtol=1e-4)


def test_long_clips_are_cut_into_chunks_that_start_afresh(folders):
    _, network = tiny_config(), random_network(tiny_config())
    mean, std = torch.randn(16, 3), torch.rand(16, 3) + 0.5
    tokenizer = ContinuousVideoTokenizer(network, path=folders["cv"], mean_std=(mean, std), chunk_frames=17)
    assert [tokenizer.latent_frames(n) for n in (1, 9, 17, 34, 35, 43)] == [1, 2, 3, 6, 7, 8]
    video = clip(43)
    latent = tokenizer.encode(video)
    expected = torch.cat([tokenizer.encode(part) for part in video.split(17, dim=2)], dim=2)
    torch.testing.assert_close(latent, expected)
    assert tokenizer.decode(latent).shape == video.shape
    with pytest.raises(UserError, match="num_frames=4 "):
        tokenizer.latent_frames(38)


def test_statistics_make_latents_standard(folders):
    tokenizer = ContinuousVideoTokenizer(random_network(tiny_config()), path=folders["cv"], chunk_frames=25)
    clips = [clip(17, seed=seed) for seed in range(3)] + [clip(1, seed=7)]
    mean, std = latent_statistics(tokenizer, clips)
    assert mean.shape == std.shape == (16, 4)
    normalised = ContinuousVideoTokenizer(
        random_network(tiny_config()), path=folders["cv"], chunk_frames=25, mean_std=(mean, std)
    )
    latents = torch.cat([normalised.encode(one) for one in clips[:3]])
    later = latents[:, :, 1:].transpose(0, 1).flatten(1)
    torch.testing.assert_close(later.mean(dim=1), torch.zeros(16), atol=0.2, rtol=0)
    torch.testing.assert_close(later.std(dim=1), torch.ones(16), atol=0.2, rtol=0)
    # A frame that no clip has gets the statistics of all later ones together.
    assert torch.isfinite(std).all() and (std[:, 3] > 0).all()
    with pytest.raises(UserError, match="already"):
        latent_statistics(normalised, clips)


def test_tokens_lead_back_whatever_their_integer_type(folders):
    tokenizer = load_cosmos_tokenizer(folders["dv"])
    tokens = tokenizer.encode(clip(9, batch=2))
    assert tokens.dtype == torch.int32 and tokens.shape == (2, 2, 2, 3)
    assert torch.equal(tokenizer.decode(tokens), tokenizer.decode(tokens.long()))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.full((1, 1, 2, 2), 64000), "from 64000 to 64000 are outside the vocabulary of 64000"),
        (torch.full((1, 1, 2, 2), -1), "outside the vocabulary"),
        (torch.zeros(1, 1, 2, 2), "integers"),
        (torch.zeros(1, 2, 2, dtype=torch.int32), r"\[B, T, H, W\]"),
    ],
)
def test_impossible_tokens_are_refused(folders, tokens, message):
    with pytest.raises(UserError, match=message):
        load_cosmos_tokenizer(folders["dv"]).decode(tokens)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (torch.zeros(1, 1, 9, 32, 32), "grey"),
        (torch.zeros(1, 3, 10, 32, 32), "num_frames=10"),
        (torch.zeros(1, 3, 9, 33, 32), "height=33"),
    ],
)
def test_impossible_clips_are_refused(folders, video, message):
    for name in ("cv", "dv"):
        with pytest.raises(UserError, match=message):
            load_cosmos_tokenizer(folders[name]).encode(video)


def test_tiles_bound_what_is_coded_at_once(folders):
    sizes = []
    network = random_network(tiny_config(discrete=True))
    network.encoder.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    limits = Limits(pixels_per_piece=8 * 64 * 64, tile_above_pixels=64 * 64, tile_pixels=32)
    tokenizer = DiscreteTokenizer(network, path=folders["dv"], limits=limits)
    video = clip(17, 64, 96)
    tokens = tokenizer.encode(video)
    assert tokens.shape == (1, 3, 4, 6)
    assert set(sizes) == {(1, 32, 32), (8, 32, 32)}
    assert tokenizer.decode(tokens).shape == video.shape


@pytest.mark.parametrize("content", [(torch.zeros(3), torch.ones(3)), (torch.zeros(16, 16), torch.zeros(16, 16)), 5])
def test_unusable_statistics_are_refused(folders, tmp_path, content):
    for file in folders["cv"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(content, tmp_path / "mean_std.pt")
    with pytest.raises(UserError, match=r"mean_std\.pt"):
        load_cosmos_tokenizer(tmp_path)


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="no video tokenizer at"):
        load_video_tokenizer(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load_video_tokenizer(tmp_path / "absent")
