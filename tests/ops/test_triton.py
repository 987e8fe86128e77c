import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from fimp.errors import FIMPError
from fimp.ops import _triton, _triton_kernels, _triton_launch, edge_attention

# Under the interpreter every step of every program takes milliseconds: problems are tiny.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LEAVES = ("query", "key", "value")


def problem(
    seed, edges=5, heads=2, tokens=3, sources=4, width=5, extra=1, mask=True, weights=True, dtype=torch.float64
):
    """Three destinations, four sources: tensors and options of edge_attention."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)

    def nodes(count):
        return torch.randint(count, (edges,), generator=generator)

    tensors = {
        "query": normal(3, heads, tokens, width),
        "key": normal(4, heads, sources, width),
        "value": normal(4, heads, sources, width + extra),
        "edge_index": torch.stack([nodes(4), nodes(3)]).to(DEVICE),
    }
    if mask:
        real = torch.rand(4, sources, generator=generator) > 0.4
        real[0] = False  # a source without any real token
        tensors["key_mask"] = real.to(DEVICE)
    if weights:
        tensors["edge_weight"] = normal(edges).square() + 0.1
    return tensors


def outcome(tensors, blocks=None, **options):
    """Output of edge_attention and the gradients of everything that has one."""
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    leaves = [tensor.requires_grad_() for tensor in tensors.values() if tensor.is_floating_point()]
    with pytest.MonkeyPatch.context() as patch:
        if blocks is not None:
            whole = _triton.weighted_sum
            patch.setattr(_triton, "weighted_sum", lambda *given: whole(*given, blocks=blocks))
        out = edge_attention(**tensors, **options)
        # Zero times the leaf: the reference does not touch every leaf of an empty graph.
        loss = out.double().sin().sum() + sum(0.0 * leaf.double().sum() for leaf in leaves)
        return [out.detach(), *torch.autograd.grad(loss, leaves)]


def assert_equals_reference(tensors, blocks=None, rtol=1e-9, atol=1e-11, **options):
    ours = outcome(tensors, blocks, backend="triton", **options)
    exact = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    reference = outcome(exact, backend="reference", **options)
    for found, wanted in zip(ours, reference, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=rtol, atol=atol)


@given(
    seed=st.integers(0, 10_000),
    edges=st.integers(0, 4),
    mask=st.booleans(),
    weights=st.booleans(),
    aggr=st.sampled_from(["mean", "sum"]),
    extra=st.sampled_from([-3, 0, 14]),
)
@settings(max_examples=8)
def test_equals_the_reference(seed, edges, mask, weights, aggr, extra):
    assert_equals_reference(problem(seed, edges, mask=mask, weights=weights, extra=extra, heads=1), aggr=aggr)


@pytest.mark.parametrize("blocks", [(16, 16), (16, 64), (32, 16)])
@pytest.mark.parametrize("mask", [True, False])
def test_blocks_of_queries_and_keys_do_not_matter(blocks, mask):
    # Three blocks of keys, two of queries, neither of them full at the end; then blocks that hold everything.
    assert_equals_reference(problem(1, 2, heads=1, tokens=20, sources=37, mask=mask), blocks)


def test_full_blocks_need_no_masks():
    assert_equals_reference(
        problem(2, 2, heads=2, tokens=16, sources=32, width=16, extra=0, mask=False), blocks=(16, 16)
    )


def test_a_source_masked_up_to_its_last_block():
    tensors = problem(3, 4, heads=1, tokens=2, sources=40)
    tensors["key_mask"][1:, :35] = False
    assert_equals_reference(tensors, blocks=(16, 16))


def test_repeated_edges_and_nodes_without_edges():
    tensors = problem(4, 4)
    tensors["edge_index"] = torch.tensor([[1, 1, 1, 2], [2, 2, 2, 0]], device=DEVICE)
    assert_equals_reference(tensors)
    assert (edge_attention(**tensors, backend="triton")[1] == 0).all()


@pytest.mark.parametrize("shape", [{"edges": 0}, {"sources": 0}, {"tokens": 0}, {"heads": 0}])
def test_nothing_to_attend_to(shape):
    tensors = problem(5, **{"mask": False, "weights": False, **shape})
    out, *grads = outcome(tensors, backend="triton")
    assert out.shape == (*tensors["query"].shape[:3], 6)
    assert all((tensor == 0).all() for tensor in (out, *grads))


@pytest.mark.parametrize("rubbish", [1e6, float("nan"), float("inf")])
def test_masked_tokens_have_no_influence(rubbish):
    tensors = problem(6, 3, heads=1)
    before = outcome(tensors, backend="triton")
    hidden = ~tensors["key_mask"][:, None, :, None]
    for name in ("key", "value"):
        tensors[name] = torch.where(hidden, rubbish, tensors[name])
    for ours, wanted in zip(outcome(tensors, backend="triton"), before, strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 0.01), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("blocks", [None, (16, 16)])
def test_rounds_no_more_than_its_type_does(dtype, tolerance, blocks):
    tensors = problem(7, 2, heads=1, sources=20, width=16, dtype=dtype)
    tensors["edge_weight"] = tensors["edge_weight"].float()
    assert outcome(tensors, blocks, backend="triton")[0].dtype == dtype
    assert_equals_reference(tensors, blocks, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_equal_finite_differences(dropout):
    tensors = problem(8, 2, heads=1, tokens=2, sources=3, width=2)
    edge_index, mask = tensors.pop("edge_index"), tensors.pop("key_mask")

    def function(query, key, value, weight):
        torch.manual_seed(4)
        return edge_attention(
            query, key, value, edge_index, key_mask=mask, edge_weight=weight, dropout=dropout, backend="triton"
        )

    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


def test_dropout_is_the_same_for_every_block_size():
    tensors = problem(9, 1, tokens=17, sources=20)
    found = []
    for blocks in ((16, 16), (32, 32)):
        torch.manual_seed(3)
        found.append(outcome(tensors, blocks, backend="triton", dropout=0.5))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_drops_its_share_and_keeps_the_expectation():
    # Equal scores and values that name their token: the output shows which weights were dropped.
    sources, dropout = 64, 0.25
    query, key = torch.zeros(1, 2, 64, 16, device=DEVICE), torch.zeros(2, 2, sources, 16, device=DEVICE)
    value = torch.eye(sources, device=DEVICE).expand(2, 2, -1, -1)
    edge_index = torch.tensor([[0, 1], [0, 0]], device=DEVICE)
    torch.manual_seed(0)
    first, second = (edge_attention(query, key, value, edge_index, dropout=dropout, backend="triton") for _ in "12")
    count = (first * sources * 2 * (1 - dropout)).round()
    assert set(count.unique().tolist()) == {0.0, 1.0, 2.0}
    # 16,384 draws: a standard deviation of the share is 0.0034.
    assert abs(float(count.mean()) / 2 - (1 - dropout)) < 0.014
    assert not torch.equal(first, second)
    # Heads, queries and edges draw on their own: of two edges, both keep with the product of the chances.
    assert abs(float((count == 2).double().mean()) - (1 - dropout) ** 2) < 0.025
    assert not torch.equal(count[0, 0], count[0, 1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_memory_order_of_the_inputs_does_not_matter(dtype):
    tensors = problem(10, 4, dtype=dtype)
    moved = dict(tensors)
    for name in LEAVES:
        moved[name] = tensors[name].transpose(1, 2).contiguous().transpose(1, 2)
    wide = torch.randn(4, 2, 4, 10, device=DEVICE, dtype=dtype)
    wide[..., ::2] = tensors["key"]
    strided = {**tensors, "key": wide[..., ::2]}
    expected = edge_attention(**tensors, backend="triton")
    assert torch.equal(edge_attention(**strided, backend="triton"), expected)
    out = edge_attention(**moved, backend="triton")
    assert torch.equal(out, expected)
    # What follows usually joins heads, [N, T, H * d]: no copy is needed then.
    assert out.transpose(1, 2).is_contiguous()


def test_the_same_every_time_and_whatever_the_order_of_edges():
    tensors = problem(11, 4, heads=1)
    first, again = (outcome(tensors, backend="triton") for _ in "12")
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    shuffled = {**tensors, "edge_index": tensors["edge_index"][:, order], "edge_weight": tensors["edge_weight"][order]}
    *ours, weight = outcome(shuffled, backend="triton")
    for found, wanted in zip([*ours, weight], [*first[:-1], first[-1][order]], strict=True):
        torch.testing.assert_close(found, wanted)


def test_only_what_is_asked_for_gets_a_gradient():
    tensors = problem(12, 2, heads=1)
    for name in (*LEAVES, "edge_weight"):
        leaves = {key: tensor.detach().clone() for key, tensor in tensors.items()}
        leaf = leaves[name].requires_grad_()
        (grad,) = torch.autograd.grad(edge_attention(**leaves, backend="triton").sin().sum(), leaf)
        (wanted,) = torch.autograd.grad(edge_attention(**leaves, backend="reference").sin().sum(), leaf)
        torch.testing.assert_close(grad, wanted)


def test_autocasting_and_expanded_gradients():
    tensors = problem(13, 4, heads=1, dtype=torch.float32)
    query = tensors.pop("query").requires_grad_()
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = edge_attention(query, **tensors, backend="triton")
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    ours, query.grad = query.grad, None
    edge_attention(query, **tensors, backend="reference").sum().backward()
    torch.testing.assert_close(ours, query.grad, atol=0.06, rtol=0.06)


def test_auto_does_not_take_it_on_a_cpu(monkeypatch):
    monkeypatch.setattr(_triton, "weighted_sum", lambda *_: pytest.fail("triton was taken"))
    tensors = {name: tensor.cpu() for name, tensor in problem(14).items()}
    assert edge_attention(**tensors).shape == (3, 2, 3, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.zeros(4, 2, 4, 300)}, "heads of size 300 in value, wanted 1 to 256; use backend='chunked'"),
        ({"key": torch.zeros(4, 2, 4, 5, dtype=torch.bfloat16)}, "key of type torch.bfloat16, wanted that of query"),
        ({"query": torch.zeros(3, 2, 3, 5, dtype=torch.int32)}, "query of type torch.int32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    tensors = problem(15, dtype=torch.float32)
    moved = {name: tensor.to(DEVICE) for name, tensor in change.items()}
    with pytest.raises(FIMPError, match=message):
        edge_attention(**{**tensors, **moved}, backend="triton")


def test_double_precision_needs_a_recent_triton(monkeypatch):
    monkeypatch.setattr(_triton_kernels, "HAS_DOUBLE", False)
    with pytest.raises(FIMPError, match=r"with triton 3\.6 or above only; use backend='chunked'"):
        edge_attention(**problem(17), backend="triton")


def test_a_cpu_without_the_interpreter_is_refused(monkeypatch):
    monkeypatch.setattr(_triton_kernels, "INTERPRETED", False)
    tensors = {name: tensor.cpu() for name, tensor in problem(16).items()}
    with pytest.raises(FIMPError, match="found query on cpu, wanted a GPU, or TRITON_INTERPRET=1 before"):
        edge_attention(**tensors, backend="triton")


@pytest.mark.parametrize("name", ["allow_tf32", "fp32_precision"])
def test_single_precision_is_multiplied_as_torch_is_told_to(name):
    matmul = torch.backends.cuda.matmul
    before = getattr(matmul, name, None)
    values = {"allow_tf32": (True, False), "fp32_precision": ("tf32", "ieee")}[name]
    if before is None:
        pytest.skip("torch 2.8 does not have it")
    try:
        for value, precision in zip(values, ("tf32", "ieee"), strict=True):
            setattr(matmul, name, value)
            assert _triton_launch.precision() == precision
    finally:
        setattr(matmul, name, before)
