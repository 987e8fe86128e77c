import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.errors import FIMPError
from fimp.nn import FIMPConv, FoundationMessage, StackConfig, TransformerStack

MODES = ("final", "layer")
VARIANTS = {
    "post": {},
    "pre": {"norm": "pre", "activation": "gelu", "qkv_bias": False},
    "scale": {"norm": "pre", "activation": "swiglu", "layer_scale": True},
    "conv": {"value_conv": 3},
    "nystrom": {"value_conv": 3, "landmarks": 2},
}


def stack(variant="post", seed=0, **options):
    torch.manual_seed(seed)
    shape = {"dim": 8, "heads": 2, "hidden": 12, "layers": 3}
    made = TransformerStack(StackConfig(**(shape | VARIANTS[variant] | options))).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made.eval()


def graph(seed=0, nodes=5, edges=12, tokens=6, dim=8):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(nodes, tokens, dim, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, tokens + 1, (nodes, 1), generator=generator)
    lengths[0] = 0
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    return h, edge_index, torch.arange(tokens) < lengths


def masked(variant, mask):
    """Nystrom attention takes empty sources, but no partly masked ones."""
    return mask.any(1, keepdim=True).expand_as(mask).contiguous() if variant == "nystrom" else mask


def attend(layer, x, source, mask):
    return layer.attend(layer.queries(x), *layer.keys_values(source, mask), mask)


def slow(run, aggregate, h_dst, h_src, edge_index, mask, weight=None):
    """The mean message of every destination, edge by edge, as the definition says it."""
    states = run.encode(h_src, mask, return_hidden_states=True)
    weight = torch.ones(edge_index.size(1), dtype=h_src.dtype) if weight is None else weight
    out = []
    for i, own in enumerate(h_dst):
        into = [e for e in range(edge_index.size(1)) if edge_index[1, e] == i and mask[edge_index[0, e]].any()]
        total = sum(weight[e] for e in into)

        def mean(parts, into=into, total=total):
            return sum(weight[e] * part for e, part in zip(into, parts, strict=True)) / total

        if not into:
            out.append(torch.zeros_like(own))
            continue
        messages = [own[None] for _ in into]
        shared = own[None]
        for layer, state in zip(run.layers, states, strict=False):
            sources = [(state[j : j + 1], mask[j : j + 1]) for j in edge_index[0, into]]
            messages = [layer.finish(m, attend(layer, m, *s)) for m, s in zip(messages, sources, strict=True)]
            shared = layer.finish(shared, mean([attend(layer, shared, *source) for source in sources]))
        out.append((mean(messages) if aggregate == "final" else shared)[0])
    return torch.stack(out)


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_self_loops_alone_give_the_plain_model(variant, aggregate):
    run = stack(variant)
    h, _, mask = graph()
    mask = masked(variant, mask)
    loops = torch.arange(len(h)).expand(2, -1)
    out = FIMPConv(FoundationMessage(run, aggregate))(h, loops, mask)
    want = run.encode(h, mask).masked_fill(~mask[:, :, None], 0.0)
    torch.testing.assert_close(out, want, rtol=1e-9, atol=1e-11)
    no_edges = torch.empty(2, 0, dtype=torch.long)
    added = FIMPConv(FoundationMessage(run, aggregate), add_self_loops=True)(h, no_edges, mask)
    torch.testing.assert_close(added, out)


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("variant", ["post", "pre", "scale", "conv"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_definition_with_its_gradients(variant, aggregate, weighted):
    run = stack(variant)
    h, edge_index, mask = graph(1)
    generator = torch.Generator().manual_seed(2)
    queries = torch.randn(h.shape, generator=generator, dtype=torch.float64)
    weight = torch.rand(edge_index.size(1), generator=generator, dtype=torch.float64) if weighted else None
    results = []
    for slowly in (False, True):
        inputs = [tensor.clone().requires_grad_() for tensor in (queries, h)]
        own = None if weight is None else weight.clone().requires_grad_()
        if slowly:
            out = slow(run, aggregate, *inputs, edge_index, mask, own)
        else:
            message = FoundationMessage(run, aggregate, edges_per_chunk=3)
            out = message(*inputs, edge_index, mask, own)
        learned = [*inputs, *([own] if own is not None else []), *run.parameters()]
        grads = torch.autograd.grad((out * (queries + 1).sin()).sum(), learned, allow_unused=True)
        results.append((out, *grads))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_plain_is_what_self_loops_give(variant):
    run, (h, _, mask) = stack(variant), graph()
    message, mask = FoundationMessage(run, "layer"), masked(variant, mask)
    loops = torch.arange(len(h)).expand(2, -1)
    shown = mask.unsqueeze(-1)
    torch.testing.assert_close(message.plain(h, mask) * shown, message(h, h, loops, mask) * shown)
    torch.testing.assert_close(message.plain(h), message(h, h, loops))


@pytest.mark.parametrize("aggregate", MODES)
def test_keeping_or_recomputing_changes_no_gradient(monkeypatch, aggregate):
    h, edge_index, mask = graph()
    found = []
    for kept in (0, 2**30):
        monkeypatch.setattr("fimp.nn.foundation_message._NUMBERS_KEPT", {"cpu": kept})
        run = stack("pre", dropout=0.3).train()
        torch.manual_seed(1)
        message = FoundationMessage(run, aggregate)
        (message(h, h, edge_index, mask).square().sum() + message.plain(h, mask).square().sum()).backward()
        found.append([parameter.grad for parameter in run.parameters()])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("aggregate", MODES)
def test_nystrom_with_one_edge_equals_the_definition(aggregate):
    run = stack("nystrom")
    h, _, _ = graph(1, nodes=2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    edge = torch.tensor([[0], [1]])
    inputs = [h.clone().requires_grad_() for _ in range(2)]
    out = FoundationMessage(run, aggregate)(*inputs, edge, mask)
    # The source stream scales its pseudo-inverse by a maximum over both nodes, here and there.
    wanted = slow(run, aggregate, *inputs, edge, mask)
    torch.testing.assert_close(out, wanted)
    found, want = (
        torch.autograd.grad(one.sin().sum(), [*inputs, *run.parameters()], allow_unused=True) for one in (out, wanted)
    )
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("variant", ["post", "conv"])
def test_chunks_change_nothing(variant, aggregate):
    run = stack(variant)
    h, edge_index, mask = graph(3, edges=20)
    results = []
    for chunk in (1, 7, None):
        x = h.clone().requires_grad_()
        out = FoundationMessage(run, aggregate, edges_per_chunk=chunk)(x, x, edge_index, mask)
        results.append((out, *torch.autograd.grad(out.square().sum(), [x, *run.parameters()])))
    for result in results[1:]:
        for found, wanted in zip(result, results[0], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@given(seed=st.integers(0, 1000), aggregate=st.sampled_from(MODES), variant=st.sampled_from(["post", "pre", "conv"]))
@settings(max_examples=15)
def test_relabelling_nodes_and_shuffling_edges_change_nothing(seed, aggregate, variant):
    conv = FIMPConv(FoundationMessage(stack(variant), aggregate), add_self_loops=True)
    h, edge_index, mask = graph(seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(h), generator=generator)
    shuffle = torch.randperm(edge_index.size(1), generator=generator)
    moved = conv(h[order], order.argsort()[edge_index[:, shuffle]], mask[order])
    torch.testing.assert_close(moved, conv(h, edge_index, mask)[order], rtol=1e-9, atol=1e-11)


@given(seed=st.integers(0, 1000), aggregate=st.sampled_from(MODES), variant=st.sampled_from(["post", "pre", "scale"]))
@settings(max_examples=15)
def test_order_and_masked_content_of_source_tokens_change_nothing(seed, aggregate, variant):
    message = FoundationMessage(stack(variant), aggregate)
    h, edge_index, mask = graph(seed)
    queries = h.flip(0)
    out = message(queries, h, edge_index, mask)
    order = torch.randperm(h.size(1), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(message(queries, h[:, order], edge_index, mask[:, order]), out, rtol=1e-9, atol=1e-11)
    rubbish = torch.where(mask[:, :, None], h, torch.nan)
    torch.testing.assert_close(message(queries, rubbish, edge_index, mask), out, rtol=0, atol=0)


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("variant", ["post", "conv", "nystrom"])
def test_nodes_that_receive_nothing_get_zero(variant, aggregate):
    message = FoundationMessage(stack(variant), aggregate)
    h, _, mask = graph()
    mask = masked(variant, mask)
    # Node 0 has no real token: what it sends does not count, and node 3 hears from nobody else.
    h[0] = torch.nan
    edge_index = torch.tensor([[0, 1, 0], [2, 2, 3]])
    x = h.clone().requires_grad_()
    out = message(h[1:].repeat(2, 1, 1)[:5], x, edge_index, mask)
    assert out.isfinite().all()
    assert (out[[0, 1, 3, 4]] == 0).all()
    assert (out[2] != 0).any()
    torch.testing.assert_close(out, message(h[1:].repeat(2, 1, 1)[:5], x, edge_index[:, 1:2], mask))
    grad, *others = torch.autograd.grad(out.sum(), [x, *message.parameters()])
    assert all(one.isfinite().all() for one in (grad, *others))
    assert (grad[1] != 0).any()
    if variant != "nystrom":  # which has a maximum over all nodes
        assert (grad[[0, 2, 3, 4]] == 0).all()
    none = message(h[1:], h, torch.empty(2, 0, dtype=torch.long), mask)
    assert (none == 0).all()


@pytest.mark.parametrize("aggregate", MODES)
def test_sum_is_the_mean_times_the_weight_that_arrives(aggregate):
    message = FoundationMessage(stack(), aggregate)
    h, edge_index, mask = graph(4)
    weight = torch.rand(edge_index.size(1), dtype=torch.float64)
    sends = mask.any(1)[edge_index[0]]
    total = torch.zeros(len(h), dtype=torch.float64).index_add(0, edge_index[1], weight * sends)
    mean = message(h, h, edge_index, mask, weight)
    torch.testing.assert_close(message(h, h, edge_index, mask, weight, "sum"), mean * total[:, None, None])
    doubled = message(h, h, torch.cat([edge_index, edge_index[:, :1]], 1), mask)
    assert not torch.allclose(doubled, message(h, h, edge_index, mask))


@pytest.mark.parametrize("aggregate", MODES)
def test_chosen_layers_run_in_both_streams(aggregate):
    run = stack()
    h, edge_index, mask = graph(5)
    found = FoundationMessage(run, aggregate, layers="-2:")(h, h, edge_index, mask)
    torch.testing.assert_close(found, slow(run.part("-2:"), aggregate, h, h, edge_index, mask))
    loops = torch.arange(len(h)).expand(2, -1)
    one = FIMPConv(FoundationMessage(run, aggregate, layers=slice(0, 1)))(h, loops, mask)
    torch.testing.assert_close(one[mask], run.layers[0](h, mask)[mask])


@pytest.mark.parametrize("aggregate", MODES)
def test_frozen_layers_get_no_gradient_and_pass_it_on(aggregate):
    run = stack()
    h, edge_index, mask = graph(6)
    for parameter in run.parameters():
        parameter.requires_grad_(False)
    for parameter in run.layers[2].parameters():
        parameter.requires_grad_(True)
    x = h.clone().requires_grad_()
    FoundationMessage(run, aggregate, edges_per_chunk=4)(x, x, edge_index, mask).sin().sum().backward()
    assert all(parameter.grad is None for parameter in run.layers[:2].parameters())
    own = {name: parameter.grad for name, parameter in run.layers[2].named_parameters()}
    y = h.clone().requires_grad_()
    run.zero_grad()
    slow(run, aggregate, y, y, edge_index, mask).sin().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for name, parameter in run.layers[2].named_parameters():
        torch.testing.assert_close(own[name], parameter.grad)


@pytest.mark.parametrize("aggregate", MODES)
def test_dropout_is_the_same_in_both_passes(aggregate):
    """The gradient is that of the very function that was drawn: it agrees with a finite difference."""
    run = stack(dropout=0.3).train()
    h, edge_index, mask = graph(7)
    message = FoundationMessage(run, aggregate, edges_per_chunk=5)

    def loss(x):
        torch.manual_seed(11)
        return message(x, x, edge_index, mask).sin().sum()

    x = h.clone().requires_grad_()
    grad = torch.autograd.grad(loss(x), x)[0]
    torch.manual_seed(12)
    step = 1e-6 * torch.randn_like(h)
    with torch.no_grad():
        change = loss(h + step) - loss(h - step)
        assert not torch.equal(message(h, h, edge_index, mask), message(h, h, edge_index, mask))
    torch.testing.assert_close(change, 2 * (grad * step).sum(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("variant", ["post", "conv"])
def test_what_is_kept_for_the_backward_pass_does_not_grow_with_edges(variant, aggregate):
    message = FoundationMessage(stack(variant), aggregate, edges_per_chunk=8)
    h, _, _ = graph(8, tokens=6)
    x = h.requires_grad_()
    kept = []
    for edges in (40, 400):
        edge_index = torch.randint(len(h), (2, edges))
        seen = {}

        def note(tensor, seen=seen):
            seen[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = message(x, x, edge_index)
        out.sum().backward()
        kept.append(sum(seen.values()))
    # A few numbers per edge, and not the 48 of one message.
    assert kept[1] - kept[0] < 360 * 12


@pytest.mark.parametrize("aggregate", MODES)
@pytest.mark.parametrize("variant", ["post", "pre", "conv", "nystrom"])
def test_mixed_precision_gives_about_the_same(variant, aggregate):
    run = stack(variant).float()
    h, edge_index, mask = graph(9)
    h, mask = h.float(), masked(variant, mask)
    grads = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = FoundationMessage(run, aggregate, edges_per_chunk=5)(h, h, edge_index, mask)
        assert out.dtype == torch.float32
        grads.append(torch.autograd.grad(out.square().sum(), list(run.parameters())))
    for exact, rough in zip(*grads, strict=True):
        assert rough.dtype == torch.float32
        assert (exact - rough).norm() <= 0.2 * exact.norm() + 0.2


def test_reset_draws_the_shared_layers_anew():
    run = stack()
    before = run.layers[0].q_proj.weight.clone()
    FIMPConv(FoundationMessage(run)).reset_parameters()
    assert not torch.equal(run.layers[0].q_proj.weight, before)


def test_errors_name_what_is_wrong():
    run = stack()
    h, edge_index, mask = graph()
    with pytest.raises(FIMPError, match="aggregate='mean'"):
        FoundationMessage(run, "mean")
    with pytest.raises(FIMPError, match="edges_per_chunk=0"):
        FoundationMessage(run, edges_per_chunk=0)
    with pytest.raises(FIMPError, match="leaves none"):
        FoundationMessage(run, layers="9:")
    message = FoundationMessage(run)
    with pytest.raises(FIMPError, match="aggr='max'"):
        message(h, h, edge_index, mask, aggr="max")
    with pytest.raises(FIMPError, match="names of tokens"):
        message(h, h, edge_index, mask, names=(h, h))
    with pytest.raises(FIMPError, match=r"\[N, T, 8\]"):
        message(h[..., :4], h, edge_index, mask)
    with pytest.raises(FIMPError, match="source indices"):
        message(h, h[:2], edge_index, mask[:2])
    with pytest.raises(FIMPError, match="edge_weight has shape"):
        message(h, h, edge_index, mask, torch.ones(3))
    for aggregate in MODES:
        with pytest.raises(FIMPError, match="equal numbers of tokens, got 4 queries and 6"):
            FoundationMessage(stack("conv"), aggregate)(h[:, :4], h, edge_index, mask)
