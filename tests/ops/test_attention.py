import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.errors import FIMPError
from fimp.ops import _chunked, edge_attention, edge_attention_weights, message_weight

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "ampconv"
DOUBLE = torch.float64


def problem(seed, nodes=6, edges=14, heads=2, tokens=3, sources=4, width=5, mask=True, weights=True, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    out = {
        "query": normal(nodes, heads, tokens, width),
        "key": normal(nodes + 1, heads, sources, width),
        "value": normal(nodes + 1, heads, sources, width + 1),
        "edge_index": torch.stack(
            [
                torch.randint(nodes + 1, (edges,), generator=generator),
                torch.randint(nodes, (edges,), generator=generator),
            ]
        ),
    }
    options = {}
    if mask:
        options["key_mask"] = torch.rand(nodes + 1, sources, generator=generator) > 0.4
        options["key_mask"][0] = False  # a source without any real token
    if weights:
        options["edge_weight"] = torch.rand(edges, generator=generator, dtype=dtype) + 0.1
    return out, options


def by_hand(query, key, value, edge_index, key_mask=None, edge_weight=None, aggr="mean"):
    """The formula of design section 4, written as loops."""
    out = torch.zeros(*query.shape[:3], value.size(3), dtype=query.dtype)
    total = torch.zeros(query.size(0), dtype=query.dtype)
    for e, (j, i) in enumerate(edge_index.t().tolist()):
        weight = 1.0 if edge_weight is None else edge_weight[e]
        real = torch.ones(key.size(2), dtype=torch.bool) if key_mask is None else key_mask[j]
        if not real.any():
            continue
        total[i] += weight
        for h in range(query.size(1)):
            scores = query[i, h] @ key[j, h][real].T / query.size(3) ** 0.5
            out[i, h] += weight * scores.softmax(-1) @ value[j, h][real]
    if aggr == "mean":
        out = out / torch.where(total == 0, 1.0, total)[:, None, None, None]
    return out


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@given(seed=st.integers(0, 10_000), edges=st.integers(0, 25), mask=st.booleans(), weights=st.booleans())
@settings(max_examples=25, deadline=None)
def test_equals_the_formula(backend, seed, edges, mask, weights):
    tensors, options = problem(seed, edges=edges, mask=mask, weights=weights)
    for aggr in ("mean", "sum"):
        out = edge_attention(**tensors, **options, aggr=aggr, backend=backend)
        torch.testing.assert_close(out, by_hand(**tensors, **options, aggr=aggr), rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 10_000), chunk=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_chunk_size_does_not_matter(seed, chunk):
    tensors, options = problem(seed)
    src, dst = tensors["edge_index"]
    leaves = [tensors[name].clone().requires_grad_() for name in ("query", "key", "value")]
    weight = options["edge_weight"].clone().requires_grad_()

    def outcome(size):
        out = _chunked.weighted_sum(*leaves, src, dst, options["key_mask"], weight, 0.5, 0.0, chunk=size)
        return [out, *torch.autograd.grad(out.sin().sum(), [*leaves, weight])]

    for ours, whole in zip(outcome(chunk), outcome(1000), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-13)


def test_one_hub_and_many_leaves():
    # A node with more in-edges than a chunk holds, next to nodes with one: groups are split and padded.
    tensors, options = problem(29, edges=40)
    tensors["edge_index"][1, :33] = 2
    exact = edge_attention(**tensors, **options, backend="reference", aggr="sum")
    src, dst = tensors.pop("edge_index")
    for chunk in (1, 5, 16, 40):
        out = _chunked.weighted_sum(*tensors.values(), src, dst, *options.values(), 5**-0.5, 0.0, chunk=chunk)
        torch.testing.assert_close(out, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("aggr", ["mean", "sum"])
def test_gradients_equal_finite_differences(backend, aggr):
    tensors, options = problem(3, nodes=3, edges=6, tokens=2, sources=3, width=2)
    edge_index = tensors.pop("edge_index")
    leaves = [*tensors.values(), options["edge_weight"]]
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def function(query, key, value, weight):
        return edge_attention(
            query, key, value, edge_index, key_mask=options["key_mask"], edge_weight=weight, aggr=aggr, backend=backend
        )

    assert torch.autograd.gradcheck(function, leaves)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_relabelling_nodes_and_shuffling_edges_changes_nothing(seed):
    tensors, options = problem(seed)
    out = edge_attention(**tensors, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    dst_order = torch.randperm(tensors["query"].size(0), generator=generator)
    src_order = torch.randperm(tensors["key"].size(0), generator=generator)
    edge_order = torch.randperm(tensors["edge_index"].size(1), generator=generator)
    src, dst = tensors["edge_index"][:, edge_order]
    moved = edge_attention(
        tensors["query"][dst_order],
        tensors["key"][src_order],
        tensors["value"][src_order],
        torch.stack([src_order.argsort()[src], dst_order.argsort()[dst]]),
        key_mask=options["key_mask"][src_order],
        edge_weight=options["edge_weight"][edge_order],
    )
    torch.testing.assert_close(moved, out[dst_order], rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_order_of_source_tokens_changes_nothing(seed):
    tensors, options = problem(seed)
    out = edge_attention(**tensors, **options)
    order = torch.randperm(tensors["key"].size(2), generator=torch.Generator().manual_seed(seed))
    tensors["key"], tensors["value"] = tensors["key"][:, :, order], tensors["value"][:, :, order]
    options["key_mask"] = options["key_mask"][:, order]
    torch.testing.assert_close(edge_attention(**tensors, **options), out, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("rubbish", [1e6, float("nan"), float("inf")])
def test_masked_tokens_have_no_influence(backend, rubbish):
    tensors, options = problem(5)
    out = edge_attention(**tensors, **options, backend=backend)
    hidden = ~options["key_mask"][:, None, :, None]
    for name in ("key", "value"):
        tensors[name] = torch.where(hidden, rubbish, tensors[name])
    assert torch.equal(edge_attention(**tensors, **options, backend=backend), out)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_no_nan_where_nothing_is_sent(backend):
    tensors, options = problem(7)
    options["key_mask"][:] = False
    query = tensors.pop("query").requires_grad_()
    out = edge_attention(query, **tensors, **options, backend=backend)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert torch.equal(query.grad, torch.zeros_like(query))


def test_a_silent_source_does_not_count_in_the_mean():
    tensors, options = problem(9, weights=False)
    tensors["edge_index"][0, :4] = 0
    silent = tensors["edge_index"][0] == 0
    assert silent.any()
    kept = {**tensors, "edge_index": tensors["edge_index"][:, ~silent]}
    torch.testing.assert_close(edge_attention(**tensors, **options), edge_attention(**kept, **options))


def test_repeated_edges_count_as_often_as_they_stand():
    tensors, _ = problem(11, mask=False, weights=False)
    once = tensors["edge_index"]
    times = torch.arange(once.size(1)) % 3 + 1
    repeated = {**tensors, "edge_index": once.repeat_interleave(times, dim=1)}
    weighted = edge_attention(**tensors, edge_weight=times.to(DOUBLE))
    torch.testing.assert_close(edge_attention(**repeated), weighted)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_dropout_keeps_the_expectation_and_follows_the_seed(backend):
    tensors, options = problem(13, edges=6)
    torch.manual_seed(0)
    first = edge_attention(**tensors, **options, dropout=0.5, backend=backend)
    draws = [first] + [edge_attention(**tensors, **options, dropout=0.5, backend=backend) for _ in range(3000)]
    torch.manual_seed(0)
    assert torch.equal(first, edge_attention(**tensors, **options, dropout=0.5, backend=backend))
    exact = edge_attention(**tensors, **options, backend=backend)
    assert (torch.stack(draws).mean(0) - exact).abs().max() < 0.15
    assert not torch.allclose(first, exact)


def test_chunked_dropout_backward_uses_the_forward_mask():
    tensors, options = problem(15, nodes=3, edges=6, tokens=2, sources=3, width=2)
    edge_index, query = tensors["edge_index"], tensors["query"].requires_grad_()

    def function(query):
        torch.manual_seed(4)
        return edge_attention(query, tensors["key"], tensors["value"], edge_index, **options, dropout=0.4)

    assert torch.autograd.gradcheck(function, (query,))


def test_attention_weights_are_a_distribution_over_real_tokens():
    tensors, options = problem(17)
    weights = edge_attention_weights(
        tensors["query"], tensors["key"], tensors["edge_index"], key_mask=options["key_mask"]
    )
    sends = options["key_mask"][tensors["edge_index"][0]]
    assert weights.shape == (14, 2, 3, 4)
    torch.testing.assert_close(weights.sum(-1), sends.any(-1)[:, None, None].expand(-1, 2, 3).to(DOUBLE))
    assert (weights.masked_select(~sends[:, None, None, :]) == 0).all()


def test_float32_is_close_to_float64():
    tensors, options = problem(19, edges=30)
    exact = edge_attention(**tensors, **options, backend="reference")
    single = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    out = edge_attention(**single, **options, backend="chunked")
    assert out.dtype == torch.float32
    assert (out - exact).abs().max() < 1e-5


def test_chunked_backward_needs_less_memory_than_all_edges(monkeypatch):
    # The largest tensor that either pass makes is what bounds memory: record what products return.
    sizes = []
    product = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b, out: sizes.append(product(a, b, out=out).numel()) or out)
    tensors, options = problem(21, nodes=50, edges=4000, tokens=16, sources=16, dtype=torch.float32)
    query = tensors.pop("query").requires_grad_()
    monkeypatch.setattr(_chunked, "ELEMENTS_PER_CHUNK", (2**14, 2**14))
    edge_attention(query, **tensors, **options, backend="chunked").sum().backward()
    assert max(sizes) <= 2**14
    assert 4000 * 2 * 16 * 16 > 100 * 2**14


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("case*.npz")), ids=lambda path: path.stem)
def test_projection_per_node_equals_projection_per_edge(case):
    golden = {k: torch.from_numpy(np.asarray(v)) for k, v in np.load(case, allow_pickle=False).items()}
    heads, tokens, dim = (int(golden[k]) for k in ("num_heads", "num_tokens", "embed_dim"))
    mha = torch.nn.MultiheadAttention(dim, heads, batch_first=True)
    mha.load_state_dict({k.removeprefix("weight."): v for k, v in golden.items() if k.startswith("weight.")})
    x = golden["x"].view(-1, tokens, dim)
    src, dst = golden["edge_index"]
    with torch.no_grad():
        per_edge, _ = mha(x[dst], x[src], x[src])
    torch.testing.assert_close(per_edge.flatten(1), golden["edge_messages"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aggr": "max"}, "aggr='max'"),
        ({"backend": "fast"}, "backend='fast'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"edge_index": torch.tensor([[0], [99]])}, "destination indices 99..99"),
        ({"edge_index": torch.zeros(3, 2, dtype=torch.int64)}, r"edge_index has shape \[3, 2\]"),
        ({"edge_index": torch.zeros(2, 2)}, "edge_index has type torch.float32"),
        ({"key_mask": torch.ones(2, 2, dtype=torch.bool)}, "key_mask"),
        ({"edge_weight": torch.ones(3)}, "edge_weight"),
        ({"key": torch.zeros(7, 3, 4, 5)}, "key has shape"),
        ({"value": torch.zeros(7, 2, 3, 5)}, "value has shape"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    tensors, options = problem(23)
    with pytest.raises(FIMPError, match=message):
        edge_attention(**{**tensors, **options, **change})


def test_message_weight_counts_who_sends():
    edge_index = torch.tensor([[0, 1, 1, 2], [0, 0, 0, 1]])
    mask = torch.tensor([[True], [False], [True]])
    assert message_weight(edge_index, 3).tolist() == [3.0, 1.0, 0.0]
    assert message_weight(edge_index, 3, mask).tolist() == [1.0, 1.0, 0.0]
    weight = torch.tensor([0.5, 2.0, 2.0, 4.0])
    assert message_weight(edge_index, 3, mask, weight).tolist() == [0.5, 4.0, 0.0]


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_autocasting_reaches_the_gradients_of_inputs_of_several_types(backend):
    tensors, options = problem(0, dtype=torch.float32)
    tensors["key"] = tensors["key"].bfloat16()
    found = []
    for enabled in (True, False):
        inputs = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        if not enabled:
            inputs["key"] = inputs["key"].float()
        for name in ("query", "key", "value"):
            inputs[name].requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = edge_attention(**inputs, **options, backend=backend)
        out.float().square().sum().backward()
        found.append([out, *(inputs[name].grad for name in ("query", "key", "value"))])
    assert found[0][0].dtype == torch.bfloat16
    for half, whole in zip(*found, strict=True):
        torch.testing.assert_close(half.float(), whole, atol=0.05, rtol=0.05)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "fimp.ops._triton_kernels", raising=False)
    monkeypatch.delattr("fimp.ops._triton_kernels", raising=False)
    query, edge_index = torch.zeros(2, 1, 3, 4), torch.tensor([[0], [1]])
    with pytest.raises(FIMPError, match=r"needs the package triton.*pip install 'fimp\[triton\]'"):
        edge_attention(query, query, query, edge_index, backend="triton")
    assert edge_attention(query, query, query, edge_index).shape == query.shape
