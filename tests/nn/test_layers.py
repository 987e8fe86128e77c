import pytest
import torch

from fimp.errors import FIMPError
from fimp.nn import FeatureDropout, FIMPLayer, OwnAttention
from fimp.nn.layers import HalfNorm
from fimp.tokenizers import Tokens


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(5, 4, 8, generator=generator)
    mask = torch.rand(5, 4, generator=generator) > 0.3
    return torch.randn(3, 2, 8, generator=generator), Tokens(h, mask), torch.tensor([[3, 4, 0, 1], [0, 0, 1, 2]])


def test_sources_of_strangers_have_no_influence():
    queries, sources, edges = inputs()
    layer = FIMPLayer(8, 2).eval()
    out = layer(queries, sources, edges)
    changed = sources.h.clone()
    changed[4] *= -1.0  # a neighbour of node 0 alone
    moved = layer(queries, Tokens(changed, sources.mask), edges)
    assert not torch.allclose(moved[0], out[0])
    assert torch.equal(moved[1:], out[1:])


def test_own_sources_count_unless_told_otherwise():
    queries, sources, _ = inputs()
    nobody = torch.zeros(2, 0, dtype=torch.int64)
    # A layer norm would not see a constant that is added.
    changed = Tokens(sources.h * (1 - 2 * torch.eye(5)[2][:, None, None]), torch.ones_like(sources.mask))
    whole = Tokens(sources.h, torch.ones_like(sources.mask))
    layer, deaf = FIMPLayer(8, 2).eval(), FIMPLayer(8, 2, own=False).eval()
    assert not torch.allclose(layer(queries, changed, nobody)[2], layer(queries, whole, nobody)[2])
    assert torch.equal(deaf(queries, changed, nobody), deaf(queries, whole, nobody))
    # What a node shows to itself may be something else than what it shows to neighbours.
    own = Tokens(whole.h[:3, :1], whole.mask[:3, :1])
    assert torch.equal(layer(queries, changed, nobody, own), layer(queries, whole, nobody, own))
    assert not torch.allclose(layer(queries, whole, nobody, own), layer(queries, whole, nobody))


def test_attention_is_what_the_layer_uses_and_leaves_room_for_the_null_token():
    queries, sources, edges = inputs()
    weights = FIMPLayer(8, 2).attention(queries, sources, edges)
    assert weights.shape == (4, 2, 4)
    assert (weights.sum(-1) < 1.0).all()
    assert (weights.masked_select(~sources.mask[edges[0]][:, None]) == 0).all()


def test_own_attention_without_real_tokens_is_finite():
    queries, sources, _ = inputs()
    nothing = Tokens(sources.h[:3], torch.zeros(3, 4, dtype=torch.bool))
    assert torch.isfinite(OwnAttention(8, 2)(queries, nothing)).all()


def test_edge_dropout_silences_messages_in_training_only():
    queries, sources, edges = inputs()
    layer = FIMPLayer(8, 2, edge_dropout=0.999999)
    without = layer.eval()(queries, sources, edges[:, :0])
    assert torch.equal(layer.train()(queries, sources, edges), without)
    assert not torch.equal(layer.eval()(queries, sources, edges), without)


def test_nodes_farther_away_are_heard_along_edges_of_their_own():
    queries, sources, edges = inputs()
    layer = FIMPLayer(8, 2, far=True).eval()
    far = torch.tensor([[2], [0]])
    near, both = layer(queries, sources, edges), layer(queries, sources, edges, far=far)
    assert not torch.allclose(both[0], near[0])
    assert torch.equal(both[1:], near[1:])
    assert torch.equal(layer(queries, sources, edges, far=far[:, :0]), near)
    assert not torch.allclose(layer(queries, sources, torch.cat([edges, far], 1))[0], both[0])


def test_feature_dropout_is_the_same_for_all_tokens_of_a_node():
    torch.manual_seed(0)
    out = FeatureDropout(0.5)(torch.ones(20, 3, 8))
    assert torch.equal(out[:, :1].expand_as(out), out)
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(FeatureDropout(0.5).eval()(torch.ones(2, 3, 8)), torch.ones(2, 3, 8))


def test_values_that_are_twice_as_large_stay_so():
    norm = HalfNorm(8)
    h = torch.randn(5, 3, 8)
    out = norm(h)
    assert torch.equal(out[..., :4], h[..., :4])
    torch.testing.assert_close(out[..., 4:], torch.nn.functional.layer_norm(h[..., 4:], (4,)))
    torch.testing.assert_close(norm(2.0 * h)[..., :4], 2.0 * out[..., :4])


def test_a_layer_that_was_not_trained_passes_on_what_is_heard():
    """As strong as it is said: neither norm nor feed-forward network stands in between."""
    torch.manual_seed(0)
    layer = FIMPLayer(64, 4, own=False, names=True, heard=True).eval()
    # Every head has a whole name.
    names = 4.0 * torch.eye(16)[None, :3].repeat(1, 1, 4)
    called = names.expand(2, -1, -1), names
    queries, said = torch.zeros(1, 3, 64), torch.zeros(2, 3, 64)
    said[..., :32] = 0.01 * torch.randn(2, 3, 32)
    edges = torch.tensor([[1], [0]])

    def answer(factor):
        return layer(queries, Tokens(factor * said, torch.ones(2, 3, dtype=torch.bool)), edges, names=called)

    first, second = answer(1.0)[..., :32], answer(2.0)[..., :32]
    torch.testing.assert_close(second, 2.0 * first, rtol=0.05, atol=1e-3)
    similar = torch.nn.functional.cosine_similarity(first[0], said[1, :, :32])
    assert (similar > 0.8).all()


def test_edges_that_count_less_are_heard_less():
    queries, sources, edges = inputs()
    layer = FIMPLayer(8, 2).eval()
    ones = torch.ones(4)
    torch.testing.assert_close(
        layer(queries, sources, edges, edge_weight=ones), layer(queries, sources, edges), rtol=1e-5, atol=1e-6
    )
    # Nodes 1 and 2 have one neighbour each: in a mean, its weight does not matter, but in that of node 0 it does.
    weighted = layer(queries, sources, edges, edge_weight=torch.tensor([1.0, 0.0, 1.0, 1.0]))
    torch.testing.assert_close(weighted[0], layer(queries, sources, edges[:, :1])[0], rtol=1e-5, atol=1e-6)
    layer = FIMPLayer(8, 2, edge_dropout=0.5).train()
    assert torch.isfinite(layer(queries, sources, edges, edge_weight=ones)).all()


def test_own_attention_is_what_the_layer_uses():
    """With values that name their token, what is attended to is the attention itself."""
    queries, sources, _ = inputs()
    own = Tokens(sources.h[:3], sources.mask[:3] | ~sources.mask[:3].any(1, keepdim=True))
    attention = OwnAttention(8, 2)
    weights = attention.attention(queries, own)
    values = attention.kv_proj(own.h)[..., 8:].unflatten(-1, (2, 4))
    heads = []
    for head in range(2):
        q, k = (part[..., 4 * head : 4 * head + 4] for part in (attention.q_proj(queries), attention.kv_proj(own.h)))
        score = (q @ k.transpose(1, 2) / 2.0).masked_fill(~own.mask[:, None], float("-inf"))
        heads.append(score.softmax(-1))
    torch.testing.assert_close(weights, torch.stack(heads).mean(0))
    wanted = torch.cat([one @ values[:, :, head] for head, one in enumerate(heads)], -1)
    torch.testing.assert_close(attention(queries, own), attention.out_proj(wanted))


def test_a_layer_without_own_attention_has_none():
    queries, sources, _ = inputs()
    with pytest.raises(FIMPError, match="built with own=False"):
        FIMPLayer(8, 2, own=False).own_attention(queries, Tokens(sources.h[:3], sources.mask[:3]))
