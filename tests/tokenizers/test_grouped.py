from types import SimpleNamespace

import pytest
import torch

from fimp.errors import FIMPError
from fimp.tokenizers import DenseFeatures, GroupedEncoder, GroupedTokenizer
from fimp.tokenizers.base import Tokens


@pytest.mark.parametrize(("features", "groups", "tokens"), [(10, 4, 4), (3, 16, 3), (12, 4, 4), (5, 1, 1)])
def test_each_feature_is_in_one_group(features, groups, tokens):
    torch.manual_seed(0)
    model = GroupedTokenizer(features, 8, groups)
    nothing = model(torch.zeros(1, features)).h
    assert nothing.shape == (1, tokens, 8)
    moved = (model(torch.eye(features)).h != nothing).any(-1)
    assert moved.sum(1).tolist() == [1] * features
    sizes = moved.sum(0)
    assert sizes.max() - sizes.min() <= 1


def told(model, content):
    """The token that sums up a node and its other tokens, for nodes all of which are within a hop."""
    count = len(content[0])
    cells, shown = model.told(content, SimpleNamespace(num_nodes=(count, count)))
    return Tokens(torch.cat([cells, shown.h], 1), torch.cat([torch.ones_like(shown.mask[:, :1]), shown.mask], 1))


def test_a_token_is_its_groups_projection_and_embedding():
    model, x = GroupedTokenizer(10, 8, 4), torch.randn(3, 10)
    expected = x[:, :3] @ model.weight[0] + model.group[0]
    torch.testing.assert_close(model(x).h[:, 0], expected)
    expected = x[:, 8:] @ model.weight[3, :2] + model.group[3]
    torch.testing.assert_close(model(x).h[:, 3], expected)


def test_sparse_gives_the_same_and_all_parameters_learn():
    model, x = GroupedTokenizer(10, 8, 4), torch.randn(3, 10)
    assert torch.equal(model(x).h, model(x.to_sparse_csr()).h)
    torch.testing.assert_close(model(x.double()).h, model(x).h)
    assert torch.equal(model(x[1:]).h, model(x).h[1:])
    model(x).h.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_errors_name_what_is_wrong():
    with pytest.raises(FIMPError, match="groups=0 is below 1"):
        GroupedTokenizer(10, 8, 0)
    with pytest.raises(FIMPError, match=r"shape \[3, 9\], wanted \[N, 10\]"):
        GroupedTokenizer(10, 8)(torch.randn(3, 9))


@pytest.mark.parametrize("kind", ["tokens", "vectors"])
def test_the_encoder_standardises_and_drops_features_in_training(kind):
    torch.manual_seed(0)
    mean, deviation = torch.arange(10.0), torch.arange(1.0, 11.0)
    model = GroupedEncoder(kind, mean, deviation, 8, dropout=0.5, groups=4).eval()
    plain = GroupedEncoder(kind, torch.zeros(10), torch.ones(10), 8, groups=4).eval()
    plain.load_state_dict({**model.state_dict(), "mean": torch.zeros(10), "deviation": torch.ones(10)})
    x = torch.randn(5, 10)
    raw = DenseFeatures(x * deviation + mean)

    def look(encoder, content):
        return encoder.vectors(content) if kind == "vectors" else told(encoder, content).h

    torch.testing.assert_close(look(model, raw), look(plain, DenseFeatures(x)))
    assert look(model, raw).shape == ((5, 10) if kind == "vectors" else (5, 5, 8))
    assert model.out_dim == look(model, raw).shape[-1]
    model.train()
    assert not torch.equal(look(model, raw), look(model, raw))
