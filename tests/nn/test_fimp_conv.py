from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.errors import FIMPError
from fimp.nn import CrossNodeAttention, FIMPConv, add_missing_self_loops

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "ampconv"


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not here")
@pytest.mark.parametrize("case", ["case1", "case2"])
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_reproduces_the_authors_predecessor(case, backend):
    golden = {k: torch.from_numpy(np.asarray(v)) for k, v in np.load(GOLDEN / f"{case}.npz").items()}
    heads, tokens, dim = (int(golden[k]) for k in ("num_heads", "num_tokens", "embed_dim"))
    mha = torch.nn.MultiheadAttention(dim, heads, batch_first=True)
    mha.load_state_dict({k.removeprefix("weight."): v for k, v in golden.items() if k.startswith("weight.")})
    message = CrossNodeAttention.from_multihead(mha, backend=backend)
    x = golden["x"].clone().requires_grad_()
    out = FIMPConv(message)(x.view(-1, tokens, dim), golden["edge_index"]).flatten(1)
    torch.testing.assert_close(out, golden["out"], rtol=0, atol=1e-5)
    assert (out[golden["in_degree"] == 0] == 0).all()
    attention = message.attention(x.view(-1, tokens, dim), x.view(-1, tokens, dim), golden["edge_index"])
    torch.testing.assert_close(attention, golden["edge_attention"], rtol=0, atol=1e-5)

    out.square().sum().backward()
    ours = {
        "in_proj_weight": torch.cat([p.weight.grad for p in (message.q_proj, message.k_proj, message.v_proj)]),
        "in_proj_bias": torch.cat([p.bias.grad for p in (message.q_proj, message.k_proj, message.v_proj)]),
        "out_proj.weight": message.out_proj.weight.grad,
        "out_proj.bias": message.out_proj.bias.grad,
    }
    for found, wanted in [(x.grad, golden["grad_x"]), *((ours[k], golden[f"grad.{k}"]) for k in ours)]:
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-5


def layer(dim=8, heads=2, seed=0, **options):
    torch.manual_seed(seed)
    conv = FIMPConv(CrossNodeAttention(dim, heads), **options).double()
    torch.nn.init.normal_(conv.message.out_proj.bias)
    return conv


def graph(seed, nodes=6, edges=15, tokens=4, dim=8):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(nodes, tokens, dim, generator=generator, dtype=torch.float64)
    mask = torch.rand(nodes, tokens, generator=generator) > 0.3
    return h, torch.randint(nodes, (2, edges), generator=generator), mask


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_equivariant_to_relabelling(seed):
    h, edge_index, mask = graph(seed)
    conv = layer(add_self_loops=True)
    order = torch.randperm(len(h), generator=torch.Generator().manual_seed(seed))
    moved = conv(h[order], order.argsort()[edge_index], mask[order])
    torch.testing.assert_close(moved, conv(h, edge_index, mask)[order], rtol=1e-9, atol=1e-11)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_padding_and_masked_content_change_nothing(seed):
    h, edge_index, mask = graph(seed)
    conv = layer()
    out = conv(h, edge_index, mask)
    rubbish = torch.where(mask[:, :, None], h, 1e9)
    torch.testing.assert_close(conv(rubbish, edge_index, mask), out, rtol=0, atol=0)
    padded = torch.cat([h, torch.full_like(h[:, :2], 7.0)], 1)
    wider = conv(padded, edge_index, torch.cat([mask, torch.zeros_like(mask[:, :2])], 1))
    torch.testing.assert_close(wider[:, : h.size(1)], out, rtol=1e-9, atol=1e-11)
    assert (out[~mask] == 0).all()


def test_messages_flow_from_source_to_destination():
    h, _, _ = graph(1)
    conv = layer()
    out = conv(h, torch.tensor([[0], [1]]))
    assert (out[1] != 0).any()
    assert (out[[0, 2, 3, 4, 5]] == 0).all()
    changed = h.clone()
    changed[0] += 1.0
    assert not torch.allclose(conv(changed, torch.tensor([[0], [1]]))[1], out[1])


def test_bipartite_equals_one_set_of_nodes():
    h, edge_index, mask = graph(2)
    edge_index = edge_index[:, edge_index[1] < 3]
    conv = layer()
    whole = conv(h, edge_index, mask)[:3]
    torch.testing.assert_close(conv((h, h[:3]), edge_index, (mask, mask[:3])), whole)


def test_bipartite_takes_different_numbers_of_tokens():
    h, edge_index, mask = graph(3)
    conv = layer()
    queries = torch.randn(6, 2, 8, dtype=torch.float64)
    assert conv((h, queries), edge_index, (mask, None)).shape == (6, 2, 8)


def test_self_loops_are_added_once_and_only_where_missing():
    edge_index = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])
    with_loops, weight = add_missing_self_loops(edge_index, 4, torch.tensor([0.5, 1.0, 2.0, 1.0]))
    loops = with_loops[:, with_loops[0] == with_loops[1]]
    assert sorted(loops[0].tolist()) == [0, 1, 2, 3]
    assert weight.tolist() == [0.5, 1.0, 2.0, 1.0, 1.0, 1.0]
    h, _, _ = graph(4, nodes=4)
    conv, plain = layer(add_self_loops=True), layer()
    torch.testing.assert_close(conv(h, edge_index), plain(h, with_loops))


def test_sum_scales_the_output_bias_like_the_messages():
    h, _, _ = graph(5)
    edge = torch.tensor([[0], [1]])
    conv = layer(aggr="sum")
    torch.testing.assert_close(conv(h, edge.repeat(1, 3))[1], 3 * conv(h, edge)[1])
    weighted = conv(h, edge, edge_weight=torch.tensor([3.0], dtype=torch.float64))
    torch.testing.assert_close(weighted[1], 3 * conv(h, edge)[1])


def test_repr_and_reset():
    conv = layer()
    assert repr(conv).startswith("FIMPConv(\n  aggr='mean', add_self_loops=False\n  (message): CrossNodeAttention(")
    before = conv.message.q_proj.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.message.q_proj.weight)
    assert (conv.message.out_proj.bias == 0).all()


def test_all_parameters_receive_gradients():
    h, edge_index, mask = graph(6)
    conv = layer(add_self_loops=True)
    conv(h, edge_index, mask).square().sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for name, p in conv.named_parameters()
        if "k_proj.bias" not in name
    )


def test_errors_name_what_is_wrong():
    h, edge_index, _ = graph(7)
    with pytest.raises(FIMPError, match="aggr='max'"):
        FIMPConv(CrossNodeAttention(8, 2), aggr="max")
    with pytest.raises(FIMPError, match="add_self_loops"):
        layer(add_self_loops=True)((h, h), edge_index)
    with pytest.raises(FIMPError, match="2 dimensions"):
        layer()(h[0], edge_index)
