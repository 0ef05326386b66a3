import logging

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.losses import terms
from cosmos_nemo.tokenizers.losses.vgg import VGG16Features
from cosmos_nemo.tokenizers.losses.video_loss import Schedule, VideoLoss, VideoLossConfig, load_video_loss
from tests.tokenizers.losses.test_terms import video


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    return VGG16Features()


def flow_net(a, b):
    return (b - a)[:, :2]


def test_a_schedule_changes_at_its_boundaries():
    schedule = Schedule(boundaries=(10, 20), values=(1.0, 2.0, 3.0))
    assert [schedule.weight(i) for i in (0, 9, 10, 19, 20, 1000)] == [1, 1, 2, 2, 3, 3]
    for boundaries, values in (((10,), (1.0,)), ((20, 10), (1.0, 2.0, 3.0))):
        with pytest.raises(UserError, match="schedule"):
            Schedule(boundaries=boundaries, values=values)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [(0, {"color", "lpips"}), (250_000, {"color", "lpips", "flow"}), (500_000, {"color", "lpips", "gram", "flow"})],
)
def test_terms_come_in_when_their_weight_does(vgg, iteration, expected):
    loss = VideoLoss(VideoLossConfig(), vgg=vgg, flow_net=flow_net)
    x, y = video(0), video(1)
    assert set(loss(x, y, iteration=iteration)) == expected


def test_terms_are_the_weighted_distances(vgg):
    x, y = video(0), video(1)
    result = VideoLoss(VideoLossConfig(), vgg=vgg, flow_net=flow_net)(x, y, iteration=600_000)
    features = [vgg(terms.frames_of(v)) for v in (x, y)]
    torch.testing.assert_close(result["color"], (x - y).abs().mean())
    torch.testing.assert_close(result["lpips"], 0.073 * terms.perceptual_distance(*features).mean())
    torch.testing.assert_close(result["flow"], 0.01 * terms.flow_distance(flow_net, x, y))
    clips = [[f.unflatten(0, (2, 5)).transpose(1, 2).flatten(2) for f in stages] for stages in features]
    grams = [[c @ c.transpose(1, 2) / c.shape[2] for c in stages] for stages in clips]
    torch.testing.assert_close(result["gram"], 0.062 * terms.gram_distance(*grams).mean())


def test_the_squared_term_comes_in_when_its_weight_does():
    x, y = video(0), video(1)
    config = VideoLossConfig(squared=Schedule(boundaries=(10,), values=(0.0, 3.0)))
    assert set(VideoLoss(config)(x, y, iteration=9)) == {"color"}
    torch.testing.assert_close(VideoLoss(config)(x, y, iteration=10)["squared"], 3 * (x - y).square().mean())


def test_frames_at_once_change_memory_and_nothing_else(vgg):
    results = []
    for frames_at_once in (0, 3):
        y = video(1).requires_grad_()
        loss = VideoLoss(VideoLossConfig(frames_at_once=frames_at_once), vgg=vgg)
        total = sum(loss(video(0), y, iteration=500_000).values())
        total.backward()
        results.append((total.detach(), y.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    # A feature difference near zero may change its sign with the shape of the batch.
    assert (results[0][1] - results[1][1]).norm() < 0.01 * results[0][1].norm()


def test_an_exact_reconstruction_costs_nothing(vgg):
    x = video(0)
    assert all(term.item() == 0 for term in VideoLoss(VideoLossConfig(), vgg=vgg)(x, x, iteration=500_000).values())


def test_without_files_only_colour_is_left_and_that_is_said(caplog):
    with caplog.at_level(logging.INFO):
        loss = load_video_loss(VideoLossConfig())
    assert set(loss(video(0), video(1), iteration=10**6)) == {"color"}
    assert "perceptual loss is off" in caplog.text and "flow loss, due from iteration 250000, is off" in caplog.text
    caplog.clear()
    off = Schedule(values=(0.0,))
    load_video_loss(VideoLossConfig(perceptual=off, gram=off, flow=off))
    assert caplog.text == ""


def test_a_named_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no VGG16 weights"):
        load_video_loss(VideoLossConfig(vgg_path=str(tmp_path / "absent.pth")))


def test_predict1_uses_pixels_and_features_only(vgg):
    result = VideoLoss(VideoLossConfig.predict1(), vgg=vgg, flow_net=flow_net)(video(0), video(1), iteration=10**6)
    assert set(result) == {"color", "lpips"}
