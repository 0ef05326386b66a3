"""The Wan video tokenizer, on tiny networks made here."""

import pytest
import torch
from safetensors.torch import save_file

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.base import latent_frames
from cosmos_nemo.tokenizers.tiny import new_tiny_wan, write_tiny_wan
from cosmos_nemo.tokenizers.wan import WanTokenizer, load_wan

# dit.md 3.1: the statistics of the published tokenizer.
MEAN = "-0.7571 -0.7089 -0.9113 0.1075 -0.1745 0.9653 -0.1517 1.5508 0.4134 -0.0715 0.5517 -0.3632 -0.1922 -0.9497 0.2503 -0.2921"  # noqa: E501
STD = "2.8184 1.4541 2.3275 2.6558 1.2196 1.7708 2.6052 2.0743 3.2687 2.1526 2.8652 1.5579 1.6382 1.1253 2.8251 1.9160"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_wan(tmp_path_factory.mktemp("wan") / "vae", seed=0)


@pytest.fixture(scope="module")
def video():
    return torch.rand(1, 3, 9, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def original_names(state):
    """The inverse of diffusers' conversion: from its names to those of the published single file."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    residual = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
    fixed = {
        "quant_conv": "conv1",
        "post_quant_conv": "conv2",
        **{f"{side}.conv_in": f"{side}.conv1" for side in ("encoder", "decoder")},
        **{f"{side}.norm_out": f"{side}.head.0" for side in ("encoder", "decoder")},
        **{f"{side}.conv_out": f"{side}.head.2" for side in ("encoder", "decoder")},
        **{f"{side}.mid_block.attentions.0": f"{side}.middle.1" for side in ("encoder", "decoder")},
        **{
            f"{side}.mid_block.resnets.{i}.{ours}": f"{side}.middle.{2 * i}.{theirs}"
            for side in ("encoder", "decoder")
            for i in (0, 1)
            for ours, theirs in residual.items()
        },
    }

    def rename(name):
        for ours, theirs in sorted(fixed.items(), key=lambda item: -len(item[0])):
            if name.startswith(ours + "."):
                return theirs + name[len(ours) :]
        for prefix, theirs in (("encoder.down_blocks.", "encoder.downsamples."), ("decoder.up_blocks.", "")):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :].split(".")
            if prefix.startswith("decoder"):
                # Four flat indices per stage: three residual blocks and the upsampler.
                inner = int(rest[2]) if rest[1] == "resnets" else 3
                rest = [f"decoder.upsamples.{4 * int(rest[0]) + inner}", *rest[3:]]
            rest = ".".join(rest).replace("conv_shortcut", "shortcut")
            for ours, index in residual.items():
                rest = rest.replace(f".{ours}.", f".{index}.")
            return theirs + rest
        raise AssertionError(name)

    renamed = {rename(name): tensor for name, tensor in state.items()}
    assert convert_wan_vae_to_diffusers(dict(renamed)).keys() == state.keys()
    return renamed


def test_shapes_follow_the_compression(folder, video):
    tokenizer = load_wan(folder)
    latent = tokenizer.encode(video)
    assert latent.shape == (1, 16, 3, 4, 6)
    assert tokenizer.latent_frames(9) == 3
    assert tokenizer.decode(latent).shape == video.shape
    assert tokenizer.decode(latent).abs().max() <= 1


def test_a_single_image_is_one_latent_frame(folder, video):
    assert load_wan(folder).encode(video[:, :, :1]).shape == (1, 16, 1, 4, 6)


def test_encoding_is_deterministic(folder, video):
    assert torch.equal(load_wan(folder).encode(video), load_wan(folder.parent).encode(video))  # vae/ below the folder


def test_the_first_latent_frame_depends_on_the_first_frame_alone(folder, video):
    tokenizer = load_wan(folder)
    assert torch.allclose(tokenizer.encode(video)[:, :, :1], tokenizer.encode(video[:, :, :1]), atol=1e-5)


def test_latents_are_normalised_per_channel(video):
    model = new_tiny_wan(seed=0)
    plain = WanTokenizer(model, path=None, files=()).encode(video)
    mean, std = [0.5 + i for i in range(16)], [1.0 + i for i in range(16)]
    model.register_to_config(latents_mean=mean, latents_std=std)
    tokenizer = WanTokenizer(model, path=None, files=())
    shifted = tokenizer.encode(video)
    shape = (1, 16, 1, 1, 1)
    assert torch.allclose(shifted, (plain - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape))
    model.register_to_config(latents_mean=[0.0] * 16, latents_std=[1.0] * 16)
    assert torch.allclose(tokenizer.decode(shifted), WanTokenizer(model, path=None, files=()).decode(plain), atol=1e-5)


@pytest.fixture(scope="module")
def published_layout():
    """A network of the published depth, narrower, and its weights under the original names."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    model = AutoencoderKLWan(base_dim=4)
    return model, original_names(model.state_dict())


@pytest.mark.parametrize("name", ["tokenizer.pth", "tokenizer.safetensors"])
def test_the_published_single_file_is_read(tmp_path, published_layout, video, name):
    model, state = published_layout
    file = tmp_path / name
    torch.save(state, file) if name.endswith(".pth") else save_file(state, file)
    tokenizer = load_wan(file)
    assert tokenizer.files == (file,)
    assert [round(v, 4) for v in tokenizer.mean_1_C_1_1_1.flatten().tolist()] == [float(v) for v in MEAN.split()]
    assert [round(v, 4) for v in tokenizer.std_1_C_1_1_1.flatten().tolist()] == [float(v) for v in STD.split()]
    expected = WanTokenizer(model, path=None, files=()).encode(video[:, :, :5])
    assert torch.equal(tokenizer.encode(video[:, :, :5]), expected)
    if name == "tokenizer.pth":
        assert load_wan(tmp_path).files == (file,)


def test_a_single_file_with_other_weights_is_refused(tmp_path, published_layout):
    _, state = published_layout
    file = tmp_path / "tokenizer.pth"
    torch.save({k: v for k, v in state.items() if "middle.1" not in k} | {"extra.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"10 missing .*1 unexpected \(extra.weight"):
        load_wan(file)
    torch.save({"net.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="does not hold a Wan"):
        load_wan(file)
    file.write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_wan(file)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="no Wan video tokenizer"):
        load_wan(tmp_path)


def test_a_truncated_folder_is_refused(tmp_path):
    folder = write_tiny_wan(tmp_path / "vae", seed=0)
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_wan(folder)


@pytest.mark.parametrize(("frames", "neighbours"), [(8, "use 5 or 9"), (16, "use 13 or 17"), (0, "use 1 or 5")])
def test_a_frame_count_that_does_not_fit_names_its_neighbours(frames, neighbours):
    with pytest.raises(UserError, match=neighbours):
        latent_frames(frames, 4)


def test_a_size_that_does_not_fit_is_refused(folder, video):
    with pytest.raises(UserError, match="30x48"):
        load_wan(folder).encode(video[..., :30, :])


def test_large_frames_are_encoded_in_tiles(folder, video, monkeypatch):
    tokenizer = load_wan(folder)
    tokenizer.encode(video)
    assert not tokenizer.model.use_tiling
    monkeypatch.setattr("cosmos_nemo.tokenizers.wan.TILE_ABOVE_PIXELS", 32 * 48 - 1)
    tokenizer.encode(video)
    assert tokenizer.model.use_tiling


def test_equal_seeds_write_equal_files(tmp_path, folder):
    again = write_tiny_wan(tmp_path / "vae", seed=0)
    other = write_tiny_wan(tmp_path / "other", seed=1)
    name = "diffusion_pytorch_model.safetensors"
    assert (again / name).read_bytes() == (folder / name).read_bytes() != (other / name).read_bytes()


def test_making_tiny_weights_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    new_tiny_wan(seed=0)
    assert torch.equal(torch.rand(1), expected)
