from itertools import pairwise

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.cosmos import pieces
from cosmos_nemo.tokenizers.cosmos.pieces import Limits, Stream, split_time, tile_spans
from tests.tokenizers.cosmos.clips import clip, random_network, tiny_config

CONFIGS = [tiny_config(), tiny_config(discrete=True), tiny_config(temporal_compression=4, patch_size=2)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("frames_at_once", [1, 16, 24])
@torch.no_grad()
def test_pieces_give_what_the_whole_gives(config, frames_at_once):
    network = random_network(config)
    video = clip(41, batch=2)
    limits = Limits(pixels_per_piece=frames_at_once * 32 * 48)
    whole = network.pre_quant(video)
    latent = pieces.encode(network.pre_quant, config, video, limits)
    torch.testing.assert_close(latent, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        pieces.decode(network.decode, config, whole, limits), network.decode(whole), atol=1e-4, rtol=1e-4
    )


def test_no_piece_is_larger_than_asked_for():
    for num_frames in (1, 9, 17, 121):
        for at_once in (1, 8, 20, 1000):
            spans = split_time(num_frames, frames_at_once=at_once, compression=8)
            lengths = [stop - start for start, stop in spans]
            assert sum(lengths) == num_frames
            assert lengths[0] % 8 == 1
            assert all(length % 8 == 0 for length in lengths[1:])
            assert max(lengths) <= max(at_once, 8)
    assert split_time(16, frames_at_once=4, compression=1) == [(0, 4), (4, 8), (8, 12), (12, 16)]


@pytest.mark.parametrize("size", [5, 8, 9, 31, 64])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_cover_an_axis_and_their_weights_add_up(size, overlap):
    spans = tile_spans(size, 8, overlap)
    total = torch.zeros(size * 2)
    for span in spans:
        assert span.stop - span.start == min(size, 8)
        assert (span.ramp(2) > 0).all()
        total[span.start * 2 : span.stop * 2] += span.ramp(2)
    assert (total > 0).all()
    for one, other in pairwise(spans):
        assert one.stop - other.start >= 8 * overlap


@torch.no_grad()
def test_tiles_of_a_local_operation_are_exact():
    """Where a result depends on its own latent only, blending must change nothing."""
    video = clip(3, 40, 56)
    limits = Limits(tile_above_pixels=1, tile_pixels=16, tile_overlap=0.5)

    def shrink(part, memory):
        return torch.nn.functional.avg_pool3d(part, (1, 8, 8))

    def grow(part, memory):
        return part.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4)

    small = Stream(shrink, limits, unit_in=8, unit_out=1)(video)
    torch.testing.assert_close(small, shrink(video, {}))
    torch.testing.assert_close(Stream(grow, limits, unit_in=1, unit_out=8)(small), grow(small, {}))


@torch.no_grad()
def test_tiles_and_pieces_go_together():
    config = tiny_config()
    network = random_network(config)
    video = clip(17, 64, 48)
    tiles = {"tile_above_pixels": 1, "tile_pixels": 32, "tile_overlap": 0.25}
    at_once = pieces.encode(network.pre_quant, config, video, Limits(**tiles))
    by_piece = pieces.encode(network.pre_quant, config, video, Limits(pixels_per_piece=1, **tiles))
    assert at_once.shape == (1, 16, 3, 8, 6)
    torch.testing.assert_close(by_piece, at_once, atol=1e-5, rtol=1e-5)


def test_impossible_limits_are_rejected():
    with pytest.raises(UserError, match="overlap"):
        Limits(tile_overlap=1.0)
