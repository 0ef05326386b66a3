import pytest
import torch

from cosmos_nemo.tokenizers.cosmos.haar import HaarPatcher, HaarUnpatcher, wavelet_matrix
from tests.tokenizers.cosmos.clips import clip


@pytest.mark.parametrize("patch_size", [2, 4])
def test_unpatching_inverts_patching(patch_size):
    video = clip(9, 16, 24, batch=2)
    patches = HaarPatcher(patch_size)(video)
    assert patches.shape == (1 + 8 // patch_size, 2, 3 * patch_size**3, 16 // patch_size, 24 // patch_size)
    torch.testing.assert_close(HaarUnpatcher(patch_size)(patches), video, atol=1e-6, rtol=0)


def test_channels_are_ordered_by_level_then_axis_then_colour():
    """A ramp along one axis has differences along that axis only, at the level where they live."""
    ramps = {0: torch.arange(8.0).view(8, 1, 1), 1: torch.arange(4.0).view(1, 4, 1), 2: torch.arange(4.0).view(1, 1, 4)}
    for axis, ramp in ramps.items():
        video = torch.zeros(1, 3, 8, 4, 4)
        video[:, 1] = ramp  # the second colour
        patches = HaarPatcher(4)(video, is_start=False)[:, 0, :, 0, 0]
        # Letters (t, h, w) as bits 4, 2, 1; level 2 varies slowest, then level 1, then the colour.
        bit = (4, 2, 1)[axis]
        expected = {0 * 24 + 0 * 3 + 1, bit * 24 + 0 * 3 + 1, 0 * 24 + bit * 3 + 1}
        assert set(patches[0].nonzero().flatten().tolist()) == expected
        assert patches[0, 1] == video[0, 1, :4].mean() or axis != 0


@pytest.mark.parametrize("patch_size", [2, 4, 8])
def test_the_transform_is_orthogonal_up_to_scale(patch_size):
    matrix = wavelet_matrix(patch_size, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.T * patch_size**3, torch.eye(patch_size**3, dtype=torch.float64))


def test_the_first_frame_stands_alone():
    video = clip(9, 8, 8)
    changed = video.clone()
    changed[:, :, 1:] = 0
    patcher = HaarPatcher(4)
    assert torch.equal(patcher(video)[0], patcher(changed)[0])
