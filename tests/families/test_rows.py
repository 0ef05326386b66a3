import pytest
import torch

from cosmos_nemo.families.rows import Layout, join, our_shape, published_dim, split

SHAPES = {Layout.COPY: (6, 10), Layout.STACK: (6, 10), Layout.PER_HEAD: (24, 10), Layout.CONCAT: (6, 10)}
HEAD_WIDTH = 8


def check_round_trip(layout, shapes):
    pieces = [torch.randn(shape) for shape in shapes]
    ours = join(layout, pieces, head_width=HEAD_WIDTH)
    assert tuple(ours.shape) == our_shape(layout, shapes)
    again = split(layout, ours, published=shapes, head_width=HEAD_WIDTH)
    assert len(again) == len(pieces) and all(piece.is_contiguous() for piece in again)
    assert all(torch.equal(a, b) for a, b in zip(pieces, again, strict=True))


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_split_is_the_inverse_of_join(layout, count):
    check_round_trip(layout, [SHAPES[layout]] * (1 if layout is Layout.COPY else count))


def test_split_is_the_inverse_of_join_where_several_query_heads_share_a_key():
    check_round_trip(Layout.PER_HEAD, [(3 * 4 * HEAD_WIDTH, 10), (4 * HEAD_WIDTH, 10), (4 * HEAD_WIDTH, 10)])


@pytest.mark.parametrize(
    ("layout", "partition_dim", "rows"),
    [
        (Layout.PER_HEAD, 0, (24, 24, 24)),
        (Layout.PER_HEAD, 0, (48, 24, 24)),
        (Layout.STACK, 1, (24, 24, 24)),
        (Layout.STACK, 2, (24, 24, 24)),
    ],
)
def test_joining_slices_equals_slicing_what_was_joined(layout, partition_dim, rows):
    pieces = [torch.randn(count, 12) for count in rows]
    whole = join(layout, pieces, head_width=HEAD_WIDTH).chunk(3, dim=partition_dim)
    dim = published_dim(layout, partition_dim)
    for rank in range(3):
        mine = [piece.chunk(3, dim=dim)[rank] for piece in pieces]
        assert torch.equal(join(layout, mine, head_width=HEAD_WIDTH), whole[rank])


def test_qkv_lie_head_by_head():
    q, k, v = (torch.full((4, 1), value) + torch.arange(4.0)[:, None] / 10 for value in (1.0, 2.0, 3.0))
    ours = join(Layout.PER_HEAD, [q, k, v], head_width=2)[:, 0]
    expected = [1.0, 1.1, 2.0, 2.1, 3.0, 3.1, 1.2, 1.3, 2.2, 2.3, 3.2, 3.3]
    torch.testing.assert_close(ours, torch.tensor(expected))


def test_grouped_queries_lie_before_the_key_and_the_value_that_they_share():
    q = torch.tensor([[10.0], [11.0], [12.0], [13.0]])  # heads 0 and 1 share key 0, heads 2 and 3 share key 1
    k, v = torch.tensor([[20.0], [21.0]]), torch.tensor([[30.0], [31.0]])
    ours = join(Layout.PER_HEAD, [q, k, v], head_width=1)[:, 0]
    torch.testing.assert_close(ours, torch.tensor([10.0, 11.0, 20.0, 30.0, 12.0, 13.0, 21.0, 31.0]))
