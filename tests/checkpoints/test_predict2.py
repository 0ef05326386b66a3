import pytest
import torch

from cosmos_nemo.checkpoints.predict2 import (
    Layout,
    Naming,
    join,
    our_shape,
    our_shapes,
    published_dim,
    published_shape,
    published_shapes,
    split,
    table,
)
from tests.checkpoints.networks import TINY

SHAPES = {Layout.COPY: (6, 10), Layout.STACK: (6, 10), Layout.PER_HEAD: (24, 10)}


@pytest.mark.parametrize("naming", list(Naming))
def test_every_published_name_occurs_once(naming):
    names = [name for row in table(3) for name in row.published(naming)]
    assert len(names) == len(set(names)) == 7 + 3 * 20


def test_published_sizes_have_the_published_number_of_parameters():
    video_2b = {
        **TINY,
        "num_layers": 28,
        "hidden_size": 2048,
        "num_attention_heads": 16,
        "ffn_hidden_size": 8192,
        "crossattn_emb_channels": 1024,
        "adaln_lora_dim": 256,
    }
    shapes = published_shapes(video_2b, Naming.ORIGINAL)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 1_956_413_440
    assert sum(torch.Size(shape).numel() for shape in our_shapes(video_2b).values()) == 1_956_413_440
    assert len(shapes) + 7 == 574


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_split_is_the_inverse_of_join(layout, count):
    count = 1 if layout is Layout.COPY else count
    pieces = [torch.randn(SHAPES[layout]) for _ in range(count)]
    ours = join(layout, pieces, head_width=8)
    assert tuple(ours.shape) == our_shape(layout, SHAPES[layout], count)
    assert published_shape(layout, tuple(ours.shape), count) == SHAPES[layout]
    for piece, again in zip(pieces, split(layout, ours, num_pieces=count, head_width=8), strict=True):
        assert torch.equal(piece, again) and again.is_contiguous()


@pytest.mark.parametrize(("layout", "partition_dim"), [(Layout.PER_HEAD, 0), (Layout.STACK, 1), (Layout.STACK, 2)])
def test_joining_slices_equals_slicing_what_was_joined(layout, partition_dim):
    pieces = [torch.randn(24, 12) for _ in range(3)]
    whole = join(layout, pieces, head_width=8).chunk(3, dim=partition_dim)
    dim = published_dim(layout, partition_dim)
    for rank in range(3):
        mine = [piece.chunk(3, dim=dim)[rank] for piece in pieces]
        assert torch.equal(join(layout, mine, head_width=8), whole[rank])


def test_qkv_lie_head_by_head():
    q, k, v = (torch.full((4, 1), value) + torch.arange(4.0)[:, None] / 10 for value in (1.0, 2.0, 3.0))
    ours = join(Layout.PER_HEAD, [q, k, v], head_width=2)[:, 0]
    expected = [1.0, 1.1, 2.0, 2.1, 3.0, 3.1, 1.2, 1.3, 2.2, 2.3, 3.2, 3.3]
    torch.testing.assert_close(ours, torch.tensor(expected))
