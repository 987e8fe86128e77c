import pytest
import torch

from fimp.data.masking import CellTokens
from fimp.tokenizers import CellEncoder


def cells(depth):
    generator = torch.Generator().manual_seed(0)
    genes = torch.stack([torch.randperm(9, generator=generator)[:5] for _ in depth])
    values = torch.rand(len(depth), 5, generator=generator)
    mask = torch.ones(len(depth), 5, dtype=torch.bool)
    hidden = torch.zeros_like(mask)
    hidden[:, 0] = True
    return CellTokens(genes, values, values.masked_fill(hidden, 0.0), mask, hidden, torch.tensor(depth))


def encode(kind, tokens, depth=(1.0, 0.5)):
    torch.manual_seed(0)
    encoder = CellEncoder(kind, torch.zeros(9), torch.ones(9), 8, depth=depth).eval()
    return encoder.vectors(tokens) if kind == "vectors" else encoder.summaries(tokens)


@pytest.mark.parametrize("kind", ["tokens", "vectors"])
def test_depth_is_told_in_units_of_its_spread(kind):
    one = encode(kind, cells([1.0, 1.5, 0.0]))
    assert torch.equal(one, encode(kind, cells([3.0, 3.25, 2.5]), (3.0, 0.25)))
    assert not torch.allclose(one, encode(kind, cells([1.1, 1.5, 0.0])))


@pytest.mark.parametrize("kind", ["tokens", "vectors"])
def test_an_unknown_depth_is_the_mean_and_a_far_one_is_cut_off(kind):
    known, unknown = encode(kind, cells([1.0, 9.0])), encode(kind, cells([float("nan"), 99.0]))
    assert torch.equal(known, unknown)


@pytest.mark.parametrize("kind", ["tokens", "vectors"])
def test_without_statistics_no_depth_is_told(kind):
    assert torch.equal(encode(kind, cells([1.0, 2.0]), None), encode(kind, cells([3.0, float("nan")]), None))


def test_a_vector_is_longer_by_the_depth():
    torch.manual_seed(0)
    for depth, length in ((None, 27), ((0.0, 1.0), 28)):
        encoder = CellEncoder("vectors", torch.zeros(9), torch.ones(9), 8, depth=depth)
        assert encoder.out_dim == length == encoder.vectors(cells([0.0])).size(1)
