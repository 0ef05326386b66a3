"""Fitting pictures to sizes."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_nemo.media.pictures import VideoError, read_image, resize


def ramp(height, width):
    """Red is the column, green the row, blue constant."""
    yy, xx = np.mgrid[:height, :width]
    return torch.from_numpy(np.stack([xx, yy, xx * 0 + 200])).to(torch.uint8)


def soft(height, width):
    """Something like a photograph: brightness changes from pixel to pixel, but not from black to white."""
    generator = torch.Generator().manual_seed(0)
    coarse, fine = (torch.rand(1, 3, height // n + 1, width // n + 1, generator=generator) for n in (8, 2))
    coarse, fine = (torch.nn.functional.interpolate(x, size=(height, width), mode="bilinear") for x in (coarse, fine))
    return ((coarse * 0.8 + fine * 0.2)[0] * 255).to(torch.uint8)


@pytest.mark.parametrize("size", [(20, 44), (100, 130)])
def test_uint8_stretching_agrees_with_float32_to_one_grey_level(size):
    image = soft(64, 96)
    exact = torch.nn.functional.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]
    assert (resize(image, size).float() - exact).abs().max() <= 1.0


@pytest.mark.parametrize(("fit", "to_int"), [("cover", lambda x: int(x + 0.5)), ("cover_ceil", math.ceil)])
@pytest.mark.parametrize(("found", "size"), [((48, 64), (32, 32)), ((31, 90), (64, 64)), ((100, 41), (32, 48))])
def test_covering_is_scaling_by_the_larger_ratio_and_cutting_out_the_centre(fit, to_int, found, size):
    image = soft(*found)
    ratio = max(size[1] / found[1], size[0] / found[0])
    scaled = (to_int(ratio * found[0]), to_int(ratio * found[1]))
    mode = "bicubic" if fit == "cover" else "bilinear"
    exact = torch.nn.functional.interpolate(image[None].float(), size=scaled, mode=mode, antialias=True)[0]
    exact = exact.round().clamp(0, 255)  # torchvision's resize of a uint8 tensor
    top, left = round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2)
    result = resize(image, size, fit=fit)
    assert result.shape == (3, *size)
    difference = (result.float() - exact[:, top : top + size[0], left : left + size[1]]).abs()
    assert difference.max() <= 2 and difference.mean() < 0.4  # uint8 rounds between the two directions


def test_covering_does_not_distort_and_stretching_does():
    image = ramp(40, 120)
    covered, stretched = resize(image, (40, 40), fit="cover").float(), resize(image, (40, 40)).float()
    assert torch.equal(covered, image[:, :, 40:80].float())
    assert stretched[0].min() < 3 and stretched[0].max() > 116


def test_several_pictures_are_resized_like_one():
    images = torch.stack([ramp(30, 50), ramp(30, 50).flip(-1)])
    assert torch.equal(resize(images, (16, 24), fit="cover")[1], resize(images[1], (16, 24), fit="cover"))


def test_the_right_size_is_left_alone():
    image = ramp(32, 48)
    for fit in ("stretch", "cover", "cover_ceil"):
        assert resize(image, (32, 48), fit=fit).data_ptr() == image.data_ptr()


def test_images_are_read_upright_and_as_rgb(tmp_path):
    pixels = ramp(16, 24).permute(1, 2, 0).numpy()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    expected = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1)
    assert torch.equal(read_image(tmp_path / "turned.png"), expected)
    assert torch.equal(read_image((tmp_path / "turned.png").read_bytes()), expected)
    for mode in ("L", "P", "RGBA", "1"):
        Image.fromarray(pixels).convert(mode).save(tmp_path / "other.png")
        assert read_image(tmp_path / "other.png").shape == (3, 16, 24)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_file_that_is_no_picture_is_refused(content):
    with pytest.raises(VideoError, match="unreadable"):
        read_image(content)
