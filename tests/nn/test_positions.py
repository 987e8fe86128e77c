import math

import pytest
import torch

from fimp.errors import FIMPError
from fimp.nn.positions import sin_cos_1d, sin_cos_2d


def test_a_place_is_its_column_and_its_row():
    table = sin_cos_2d(3, 5, 8).unflatten(0, (3, 5))
    assert table.shape == (3, 5, 8)
    assert torch.equal(table[0, 2, :4], table[2, 2, :4])
    assert torch.equal(table[1, 0, 4:], table[1, 4, 4:])
    wanted = torch.tensor([math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)])
    torch.testing.assert_close(table[1, 2, :4], wanted)


def test_no_two_places_are_alike():
    table = sin_cos_2d(14, 14, 32)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1


def test_channels_come_in_fours():
    with pytest.raises(FIMPError, match="dim=6"):
        sin_cos_2d(2, 2, 6)


def test_places_in_a_sequence():
    table = sin_cos_1d(6, 8)
    assert table.shape == (6, 8)
    torch.testing.assert_close(table[:, 0], torch.arange(6.0).sin())
    torch.testing.assert_close(table[:, 4], torch.arange(6.0).cos())
    assert (torch.cdist(table, table) + torch.eye(6) > 0.1).all()
    with pytest.raises(FIMPError, match="dim=3"):
        sin_cos_1d(6, 3)
