import pytest
import torch

from cosmos_nemo.errors import UserError
from tests.tokenizers.cosmos.clips import clip, random_network, tiny_config

CONFIGS = [
    tiny_config(),
    tiny_config(discrete=True),
    tiny_config(temporal_compression=4, patch_size=2, attention_levels=(0,), decoder_attention_levels=(1,)),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_shapes_and_that_every_parameter_gets_a_gradient(config):
    network = random_network(config).train()
    video = clip(17, batch=2)
    out = network(video)
    assert out.video_B_3_T_H_W.shape == video.shape
    assert out.latent_B_C_T_H_W.shape == (2, config.embedding_dim, *config.latent_shape(17, 32, 48))
    assert (out.indices_B_T_H_W is None) != config.discrete
    (out.video_B_3_T_H_W - video).abs().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert [name for name, p in network.named_parameters() if not torch.isfinite(p.grad).all()] == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@torch.no_grad()
def test_the_future_changes_nothing(config):
    network = random_network(config)
    video = clip(17)
    changed = video.clone()
    changed[:, :, -config.temporal_compression :] = 0
    one, other = network.pre_quant(video), network.pre_quant(changed)
    assert torch.equal(one[:, :, :-1], other[:, :, :-1])
    assert not torch.equal(one[:, :, -1:], other[:, :, -1:])
    code = torch.randn(1, config.embedding_dim, 3, 4, 4)
    later = torch.cat([code[:, :, :2], 0 * code[:, :, 2:]], dim=2)
    assert torch.equal(
        network.decode(code)[:, :, : 1 + config.temporal_compression],
        network.decode(later)[:, :, : 1 + config.temporal_compression],
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@torch.no_grad()
def test_a_clip_of_a_batch_is_coded_as_if_alone(config):
    network = random_network(config)
    video = clip(9, 32, 32, batch=3)
    together = network(video).video_B_3_T_H_W
    torch.testing.assert_close(together[1:2], network(video[1:2]).video_B_3_T_H_W, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_single_frame_is_a_clip():
    network = random_network(tiny_config())
    image = clip(1)
    torch.testing.assert_close(network.encode(image), network.encode(clip(1))[:, :, :1])
    assert network(image).video_B_3_T_H_W.shape == image.shape
    # The first frame of a clip does not know of the others.
    video = torch.cat([image, clip(8, seed=5)], dim=2)
    torch.testing.assert_close(network.encode(video)[:, :, :1], network.encode(image), atol=1e-5, rtol=1e-5)


def test_activation_checkpointing_changes_no_gradient():
    network = random_network(tiny_config()).train()
    video = clip(9)
    gradients = []
    for enabled in (False, True):
        network.use_activation_checkpointing(enabled)
        network.zero_grad()
        network(video).video_B_3_T_H_W.square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_activation_checkpointing_keeps_less():
    network = random_network(tiny_config(channels=16, num_res_blocks=2)).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept = []
    for enabled in (False, True):
        network.use_activation_checkpointing(enabled)
        sizes: dict[int, int] = {}

        def record(tensor, sizes=sizes):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = 0 if storage.data_ptr() in weights else storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            output = network(clip(17)).video_B_3_T_H_W
        kept.append(sum(sizes.values()))
        del output
    assert kept[1] < 0.6 * kept[0]


def test_lower_precision_stays_close():
    network = random_network(tiny_config())
    video = clip(9)
    with torch.no_grad():
        expected = network(video).video_B_3_T_H_W
        actual = network.to(torch.bfloat16)(video.to(torch.bfloat16)).video_B_3_T_H_W
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).norm() < 0.1 * expected.norm()


def test_sizes_that_do_not_fit_are_named():
    network = random_network(tiny_config())
    with pytest.raises(UserError, match="num_frames=10"):
        network(clip(10))
    with pytest.raises(UserError, match="height=36"):
        network(clip(9, 36, 48))
