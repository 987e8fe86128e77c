from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from fimp.data.masking import Masking, TokenSampler
from fimp.errors import FIMPError
from fimp.nn import CrossNodeAttention, FIMPConv
from fimp.tokenizers import FeatureEncoder, FeatureTokenizer
from fimp.tokenizers.base import Tokens

FEATURES = 20


def told(model, content):
    """The token that sums up a node and its other tokens, for nodes all of which are within a hop."""
    count = len(content[0])
    cells, shown = model.told(content, SimpleNamespace(num_nodes=(count, count)))
    return Tokens(torch.cat([cells, shown.h], 1), torch.cat([torch.ones_like(shown.mask[:, :1]), shown.mask], 1))


def features(nodes=7, density=0.4, seed=0):
    """Rows of few features, the third row of none."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, FEATURES, generator=generator)
    x[torch.rand(nodes, FEATURES, generator=generator) > density] = 0.0
    x[2] = 0.0
    return x


def tokenizer(tokens=64):
    torch.manual_seed(0)
    return FeatureTokenizer(FEATURES, 8, tokens).eval()


@pytest.mark.parametrize("tokens", [3, 64])
@pytest.mark.parametrize("sparsify", [torch.Tensor.to_sparse_coo, torch.Tensor.to_sparse_csr])
def test_dense_and_sparse_give_the_same(tokens, sparsify):
    model, x = tokenizer(tokens), features()
    dense, other = model(x), model(sparsify(x))
    assert torch.equal(dense.mask, other.mask)
    assert torch.equal(dense.h, other.h)


def test_an_uncoalesced_matrix_and_stored_zeros_change_nothing():
    x = features()
    coo = x.to_sparse_coo()
    indices = torch.cat([coo.indices(), coo.indices(), torch.tensor([[2], [5]])], 1)
    values = torch.cat([0.5 * coo.values(), 0.5 * coo.values(), torch.zeros(1)])
    order = torch.randperm(len(values))
    messy = torch.sparse_coo_tensor(indices[:, order], values[order], x.shape, check_invariants=False)
    torch.testing.assert_close(tokenizer()(messy).h, tokenizer()(x).h)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
def test_words_may_be_of_any_type(dtype):
    words = features() != 0
    assert torch.equal(tokenizer()(words.to(dtype)).h, tokenizer()(words.float()).h)


def test_a_token_is_what_the_feature_and_its_value_are():
    model, x = tokenizer(), features()
    out = model(x)
    assert out.mask.sum(1).tolist() == (x != 0).sum(1).tolist()
    for node in range(len(x)):
        present = x[node].nonzero().T
        expected = model.tokenizer(present, x[node][present], torch.ones_like(present, dtype=torch.bool)).h[0]
        torch.testing.assert_close(out.h[node, out.mask[node]], expected)


@pytest.mark.parametrize("tokens", [3, 64])
def test_tokens_of_a_node_do_not_depend_on_the_others(tokens):
    model, x = tokenizer(tokens), features()
    together = model(x)
    for node in range(len(x)):
        alone = model(x[node : node + 1])
        torch.testing.assert_close(alone.h[0, alone.mask[0]], together.h[node, together.mask[node]])


def test_at_most_so_many_tokens_are_drawn_and_anew_in_training():
    model, x = tokenizer(3), features(density=0.9)
    assert model(x).mask.sum(1).tolist() == [3, 3, 0, 3, 3, 3, 3]
    assert torch.equal(model(x).h, model(x).h)
    model.train()
    assert model(x).mask.sum(1).max() == 3
    assert not torch.equal(model(x).h, model(x).h)


def test_a_node_without_features_is_harmless():
    model, x = tokenizer(), features()
    conv = FIMPConv(CrossNodeAttention(8, 2))
    h, mask = model(x.requires_grad_())
    assert not mask[2].any()
    assert (h[2] == 0).all()
    # It sends nothing: node 1 hears what it would hear without it.
    both, one = torch.tensor([[0, 2], [1, 1]]), torch.tensor([[0], [1]])
    torch.testing.assert_close(conv(h, both, mask), conv(h, one, mask))
    conv(h, both, mask).sum().backward()
    assert torch.isfinite(x.grad).all()
    nothing = model(torch.zeros(2, FEATURES))
    assert nothing.h.shape == (2, 1, 8)
    assert not nothing.mask.any()


def test_no_nodes_give_no_tokens():
    assert tokenizer()(torch.zeros(0, FEATURES)).h.shape[0] == 0


def test_errors_name_what_is_wrong():
    with pytest.raises(FIMPError, match="tokens=0 is below 1"):
        FeatureTokenizer(4, 8, 0)
    with pytest.raises(FIMPError, match=r"shape \[7, 20\], wanted \[N, 4\]"):
        FeatureTokenizer(4, 8)(features())


def encoder(kind, tokens=64):
    torch.manual_seed(1)
    return FeatureEncoder(kind, torch.full((FEATURES,), 0.5), torch.full((FEATURES,), 2.0), 8, 0.3, tokens).eval()


def content(x, nodes=None):
    values = sparse.csr_matrix(x.numpy())
    nodes = np.arange(len(x)) if nodes is None else np.array(nodes)
    return TokenSampler(values, Masking(FEATURES), 0).draw(nodes, hide=False)


def test_a_vector_holds_every_feature():
    x = features()
    out = encoder("vectors").vectors(content(x))
    assert out.shape == (7, encoder("vectors").out_dim)
    torch.testing.assert_close(out[:, :FEATURES], torch.where(x != 0, (x - 0.5) / 2.0, 0.0))
    assert torch.equal(out[:, FEATURES:], (x != 0).float())


@pytest.mark.parametrize("tokens", [3, 64])
def test_sources_do_not_depend_on_the_batch(tokens):
    x, model = features(density=0.8), encoder("tokens", tokens)
    whole = told(model, content(x))
    assert whole.mask[:, 0].all()
    assert whole.mask.sum(1).max() <= 1 + tokens
    part = told(model, content(x, [5, 2]))
    for place, node in enumerate([5, 2]):
        torch.testing.assert_close(part.h[place, part.mask[place]], whole.h[node, whole.mask[node]])


def test_features_that_are_no_tokens_reach_the_token_that_sums_up_the_node():
    x, model = features(density=0.8), encoder("tokens", 3)
    drawn = content(x)
    last = int(drawn.mask[0].sum()) - 1
    assert last >= 3
    values = drawn.values.clone()
    values[0, last] += 1.0
    before, after = told(model, drawn), told(model, drawn._replace(values=values))
    assert (before.h[0, 0] != after.h[0, 0]).any()
    assert torch.equal(before.h[:, 1:], after.h[:, 1:])


@pytest.mark.parametrize("kind", ["tokens", "vectors"])
def test_features_are_left_out_in_training_alone(kind):
    model, drawn = encoder(kind), content(features())

    def look():
        return model.vectors(drawn) if kind == "vectors" else told(model, drawn).h

    assert torch.equal(look(), look())
    assert torch.isfinite(look()).all()
    model.train()
    assert not torch.equal(look(), look())
