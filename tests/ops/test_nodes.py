import pytest
import torch

from fimp.ops._nodes import ByHead, Middle, Room


@pytest.mark.parametrize(("side", "nodes"), [(Middle, [[3], [0]]), (ByHead, [[3, 0], [1, 3]])])
def test_tokens_are_taken_and_given_at_the_same_places(side, nodes):
    tokens, nodes = torch.randn(4, 2, 3, 5), torch.tensor(nodes)
    taken = side.reading(tokens, 2.0).take(nodes, Room(), "any")
    wanted = 2.0 * tokens[nodes].permute(2, 0, 1, 3, 4).reshape(4, -1, 5)
    torch.testing.assert_close(taken, wanted)
    total = ByHead.adding((4, 2, 3, 5), tokens)
    for _ in range(2):
        total.give(nodes, taken)
    counts = torch.bincount(nodes.flatten(), minlength=4)[:, None, None, None]
    torch.testing.assert_close(total.result(0.5), 2.0 * counts * tokens)


@pytest.mark.parametrize("side", [Middle, ByHead])
def test_some_heads_are_parts_of_all(side):
    tokens, nodes, room = torch.randn(4, 6, 3, 5), torch.tensor([[2], [1]]), Room()
    total = ByHead.adding((4, 6, 3, 5), tokens)
    for heads in (slice(0, 4), slice(4, 8)):
        total.of(heads).give(nodes, side.reading(tokens).of(heads).take(nodes, room, "any"))
    torch.testing.assert_close(total.result(1.0)[[2, 1]], tokens[[2, 1]])


def test_padding_takes_nothing_and_gives_nobody():
    tokens, nodes = torch.randn(4, 2, 3, 5), torch.tensor([[1, 4]])
    taken = ByHead.reading(tokens).take(nodes, Room(), "any")
    assert (taken.view(2, 2, 3, 5)[:, 1] == 0).all()
    total = ByHead.adding((4, 2, 3, 5), tokens)
    total.give(nodes, torch.full_like(taken, torch.nan))
    assert not total.result(1.0)[[0, 2, 3]].isnan().any()


@pytest.mark.parametrize("side", [Middle, ByHead])
def test_halves_are_read_as_floats(side):
    found = side.reading(torch.ones(2, 1, 3, 4, dtype=torch.bfloat16)).take(torch.tensor([[1]]), Room(), "any")
    assert found.dtype == torch.float32


def test_room_is_used_again_and_grows():
    room, like = Room(), torch.zeros(1)
    first = room.of("a", like, 2, 3)
    assert room.of("a", like, 3).data_ptr() == first.data_ptr()
    assert room.of("b", like, 3).data_ptr() != first.data_ptr()
    assert room.of("a", like, 4, 5).shape == (4, 5)
