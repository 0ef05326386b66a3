import pytest
import torch
from torch import nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.losses.vgg import SCALE, SHIFT, STAGES, VGG16Features, load_vgg16


def published_layout() -> nn.Module:
    """VGG16 written as its paper does, under torchvision's names, with a classifier that is not wanted."""
    layers: list[nn.Module] = []
    channels = 3
    for widths in STAGES:
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    network.classifier = nn.Sequential(nn.Linear(4, 4))
    return network.eval()


def test_a_published_file_gives_the_features_behind_each_stage(tmp_path):
    torch.manual_seed(0)
    published = published_layout()
    torch.save(published.state_dict(), tmp_path / "vgg16.pth")
    network = load_vgg16(tmp_path / "vgg16.pth")
    frames = torch.rand(2, 3, 32, 48) * 2 - 1
    x = (frames - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
    for stage, end in zip(network(frames), (4, 9, 16, 23, 30), strict=True):
        torch.testing.assert_close(stage, published.features[:end](x), atol=1e-6, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_recomputing_changes_no_gradient():
    torch.manual_seed(0)
    network = VGG16Features()
    gradients = []
    for enabled in (False, True):
        network.activation_checkpointing = enabled
        frames = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32).requires_grad_()
        sum(stage.square().sum() for stage in network(frames)).backward()
        gradients.append(frames.grad)
    torch.testing.assert_close(*gradients)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no VGG16 weights.*vgg16-397923af\.pth"):
        load_vgg16(tmp_path / "absent.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(UserError, match="is not VGG16"):
        load_vgg16(tmp_path / "part.pth")
    (tmp_path / "broken.pth").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be read"):
        load_vgg16(tmp_path / "broken.pth")
