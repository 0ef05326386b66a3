import sys

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.losses import terms
from cosmos_nemo.tokenizers.losses.flow import load_raft


def video(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*(shape or (2, 3, 5, 16, 24)), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_color_is_the_mean_absolute_difference():
    x = video(0)
    assert terms.color_distance(x, x - 0.25).item() == pytest.approx(0.25)


def test_perceptual_distance_weighs_stages_per_frame():
    features = [torch.zeros(2, 4, 3, 3) for _ in range(5)]
    other = [torch.stack([torch.full((4, 3, 3), 1.0 + k), torch.zeros(4, 3, 3)]) for k in range(5)]
    expected = sum((1.0 + k) * weight for k, weight in enumerate((1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)))
    torch.testing.assert_close(terms.perceptual_distance(features, other), torch.tensor([expected, 0.0]))


def test_the_gram_matrix_of_a_clip_is_the_mean_of_its_frames():
    features = torch.randn(6, 4, 3, 5)  # 2 clips of 3 frames
    (by_frame,) = terms.gram_matrices([features])
    clips = features.unflatten(0, (2, 3)).permute(0, 2, 1, 3, 4).flatten(2)  # [B, C, T * H * W]
    expected = clips @ clips.transpose(1, 2) / clips.shape[2]
    torch.testing.assert_close(by_frame.unflatten(0, (2, 3)).mean(dim=1), expected)


def test_flow_looks_both_ways_and_scales_back():
    """A flow net that measures how much brighter the second frame is, so a fade has a known flow."""

    def brighter(a, b):
        return torch.stack([(b - a)[:, 0], torch.zeros_like(a[:, 0])], dim=1)

    fade = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(2, 3, 5, 16, 24)
    flow = terms.two_way_flow(brighter, fade)
    assert flow.shape == (2, 2, 8, 16, 24)
    torch.testing.assert_close(flow[:, 0, :4], torch.full((2, 4, 16, 24), 2.0))
    torch.testing.assert_close(flow[:, 0, 4:], torch.full((2, 4, 16, 24), -2.0))
    still = torch.zeros_like(fade).requires_grad_()
    distance = terms.flow_distance(brighter, fade, still)
    assert distance.item() == pytest.approx(1.0)  # 2 in one of two components
    distance.backward()
    assert still.grad.abs().sum() > 0
    assert terms.flow_distance(brighter, fade[:, :, :1], still[:, :, :1]).item() == 0


def test_no_divergence_from_the_standard_normal():
    assert terms.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0
    assert terms.kl_divergence(torch.full((2, 3), 2.0), torch.zeros(2, 3)).item() == pytest.approx(2.0)


@pytest.mark.parametrize(("num_frames", "step"), [(3, 1), (3, 2), (5, 1)])
def test_windows_join_to_the_clip_they_were_cut_from(num_frames, step):
    x = video(1)
    cut = terms.windows(x, num_frames=num_frames, step=step)
    num_windows = (5 - num_frames) // step + 1
    assert cut.shape == (2 * num_windows, 3, num_frames, 16, 24)
    torch.testing.assert_close(terms.join_windows(cut, num_windows=num_windows, step=step), x)


def test_windows_are_consistent_where_they_agree():
    cut = terms.windows(video(2), num_frames=3, step=1)
    assert terms.consistency_distance(cut, num_windows=3, step=1).item() == 0
    shifted = cut.clone()
    shifted[1] += 0.5  # the middle window of the first clip disagrees with both neighbours
    assert terms.consistency_distance(shifted, num_windows=3, step=1).item() == pytest.approx(0.25)


def test_flow_without_torchvision_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"needs torchvision.*model\.loss\.flow"):
        load_raft(tmp_path / "raft.pth")
