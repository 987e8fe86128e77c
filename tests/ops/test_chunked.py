import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.ops import _chunked, edge_attention
from fimp.ops._part import bounded

DOUBLE = torch.float64


def problem(seed, sources=7, destinations=6, edges=30, heads=3, tokens=3, source_tokens=4, mask=True, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    leaves = [
        normal(destinations, heads, tokens, 5),
        normal(sources, heads, source_tokens, 5),
        normal(sources, heads, source_tokens, 6),
        torch.rand(edges, generator=generator, dtype=dtype) + 0.1,
    ]
    ends = [torch.randint(count, (edges,), generator=generator) for count in (sources, destinations)]
    key_mask = torch.rand(sources, source_tokens, generator=generator) > 0.4 if mask else None
    return [leaf.requires_grad_() for leaf in leaves], torch.stack(ends), key_mask


def outcome(leaves, edge_index, key_mask, backend, scale=0.5, dropout=0.0):
    query, key, value, weight = leaves
    out = edge_attention(
        query,
        key,
        value,
        edge_index,
        key_mask=key_mask,
        edge_weight=weight,
        scale=scale,
        dropout=dropout,
        backend=backend,
    )
    return [out, *torch.autograd.grad(out.sin().sum(), leaves)]


def assert_same(ours, theirs, rtol=1e-9, atol=1e-11):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


@given(
    seed=st.integers(0, 10_000),
    sources=st.integers(1, 12),
    destinations=st.integers(1, 12),
    tokens=st.integers(1, 4),
    source_tokens=st.integers(1, 4),
    mask=st.booleans(),
    threads=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_reference_whichever_side_is_smaller(
    seed, sources, destinations, tokens, source_tokens, mask, threads
):
    inputs = problem(seed, sources, destinations, tokens=tokens, source_tokens=source_tokens, mask=mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_chunked, "_WORTH_THREADS", (0, 0) if threads else (2**62, 0))
        assert_same(outcome(*inputs, "chunked"), outcome(*inputs, "reference"))


@pytest.mark.parametrize("scale", [1.0, 400.0, -400.0])
def test_scores_of_any_size_are_exact(scale):
    # Far beyond what a power of two can hold: the maximum is subtracted.
    inputs = problem(3)
    assert bounded(*inputs[0][:2], scale) == (abs(scale) < 2.0)
    ours = outcome(*inputs, "chunked", scale=scale)
    assert all(tensor.isfinite().all() for tensor in ours)
    assert_same(ours, outcome(*inputs, "reference", scale=scale), rtol=1e-7, atol=1e-9)


def test_one_node_of_large_numbers_changes_no_bit_of_others():
    leaves, edge_index, _ = problem(9, mask=False)
    out = edge_attention(*leaves[:3], edge_index, backend="chunked")
    leaves[0].data[0] *= 1e6
    assert not bounded(*leaves[:2], 1.0)
    assert torch.equal(edge_attention(*leaves[:3], edge_index, backend="chunked")[1:], out[1:])


def test_what_is_not_a_number_stays_with_those_who_hear_it():
    # Sources of different degrees are padded; what pads must not carry anything to other nodes.
    leaves, _, _ = problem(5, mask=False)
    edge_index = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]])
    leaves[1].data[1] = torch.nan
    out = edge_attention(*leaves[:3], edge_index, backend="chunked")
    assert out.isnan().flatten(1).any(1).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("destinations", [2, 20])
def test_results_and_dropout_do_not_depend_on_threads(monkeypatch, destinations):
    inputs = problem(7, destinations=destinations, heads=4, dtype=torch.float32)
    monkeypatch.setattr(_chunked, "_WORTH_THREADS", (0, 0))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            found.append(outcome(*inputs, "chunked", dropout=0.3))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, same) for one, same in zip(found[0], other, strict=True))


def test_halves_are_added_up_in_single_precision():
    # In bfloat16, a sum of 512 ones would stay at 256.
    query, key = torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16), torch.zeros(512, 1, 2, 8, dtype=torch.bfloat16)
    edge_index = torch.stack([torch.arange(512), torch.zeros(512, dtype=torch.int64)])
    out = edge_attention(query, key, torch.ones_like(key), edge_index, aggr="sum", backend="chunked")
    assert out.dtype == torch.bfloat16
    assert (out == 512.0).all()


def test_sources_without_tokens_send_nothing():
    query, nothing = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 0, 4)
    out = edge_attention(query, nothing, nothing, torch.tensor([[0, 1], [1, 0]]), backend="chunked")
    assert torch.equal(out, torch.zeros_like(query))
