import gc
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fimp.errors import FIMPError
from fimp.nn import (
    CrossNodeAttention,
    FIMPConv,
    FIMPLayer,
    FoundationMessage,
    StackConfig,
    TransformerStack,
    mean_tokens,
)
from fimp.tokenizers import Tokens
from fimp.train import layerwise_blocks, layerwise_inference
from fimp.train.inference import passes

T, D = 5, 8
NONE = torch.zeros(2, 0, dtype=torch.int64)


def graph(seed, nodes=400, edges=2000):
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tokens = Tokens(torch.randn(nodes, T, D, dtype=torch.float64), torch.rand(nodes, T) > 0.3)
    return tokens, torch.from_numpy(generator.integers(0, nodes, (2, edges))), torch.rand(edges, dtype=torch.float64)


def stack(kind):
    torch.manual_seed(1)
    if kind == "layers":
        return [FIMPLayer(D, 2).double(), FIMPLayer(D, 2, heard=True, own=False).double(), FIMPLayer(D, 4).double()]
    if kind == "convs":
        first = FIMPConv(CrossNodeAttention(D, 2), add_self_loops=True)
        return [first.double(), FIMPConv(CrossNodeAttention(D, 2), "sum").double()]
    config = StackConfig(dim=D, heads=2, hidden=16, layers=2)
    return [FIMPConv(FoundationMessage(TransformerStack(config), kind)).double() for _ in range(2)]


def whole(layers, tokens, edge_index, weight):
    h = tokens.h
    with torch.no_grad():
        for layer in layers:
            layer.eval()
            if isinstance(layer, FIMPLayer):
                h = layer(h, Tokens(h, tokens.mask), edge_index, edge_weight=weight)
            else:
                h = layer(h, edge_index, tokens.mask, weight)
    return h


@pytest.mark.parametrize("kind", ["layers", "convs", "final", "layer"])
@pytest.mark.parametrize("repeats", [0.0, 1e9])
@pytest.mark.parametrize("budget", ["small", "100 MB"])
def test_it_equals_the_layers_on_the_whole_graph(kind, repeats, budget, monkeypatch, tmp_path):
    """Whether states are in a file or in memory, whether what is told is kept or not, weighted or not."""
    monkeypatch.setattr(passes, "_REPEATS", repeats)
    tokens, edge_index, weight = graph(3)
    layers = stack(kind)
    if budget == "small":
        budget = "240 kB" if kind in ("layers", "convs") else "400 kB"
    for one in (None, weight):
        found = layerwise_inference(layers, tokens, edge_index, edge_weight=one, memory_budget=budget, folder=tmp_path)
        torch.testing.assert_close(found, whole(layers, tokens, edge_index, one), rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 40), edges=st.integers(0, 90))
@settings(max_examples=25, deadline=None)
def test_order_of_nodes_and_edges_and_size_of_blocks_change_nothing(seed, nodes, edges):
    tokens, edge_index, _ = graph(seed, nodes, edges)
    layers = stack("layers")
    wanted = whole(layers, tokens, edge_index, None)
    place, shuffled = torch.randperm(nodes), torch.randperm(edges)
    moved = Tokens(torch.empty_like(tokens.h), torch.empty_like(tokens.mask))
    moved.h[place], moved.mask[place] = tokens.h, tokens.mask
    for budget in ("90 kB", "1 GB"):
        try:
            found = layerwise_inference(layers, moved, place[edge_index[:, shuffled]], memory_budget=budget)
        except FIMPError:  # a hub that does not fit the small one
            assert budget == "90 kB"
            continue
        torch.testing.assert_close(found[place], wanted, rtol=1e-9, atol=1e-9)


def test_positions_decide_about_blocks_and_not_about_results():
    tokens, edge_index, _ = graph(5)
    layers = stack("layers")
    found = layerwise_inference(layers, tokens, edge_index.int(), positions=torch.rand(400, 2), memory_budget="240 kB")
    torch.testing.assert_close(found, whole(layers, tokens, edge_index, None), rtol=1e-9, atol=1e-9)


def test_tokens_may_be_made_when_they_are_needed_and_are_made_once():
    tokens, edge_index, _ = graph(6)
    layers, asked = stack("layers"), []

    def make(nodes):
        asked.extend(nodes.tolist())
        return Tokens(tokens.h[nodes], tokens.mask[nodes])

    found = layerwise_inference(layers, make, edge_index, 400, readout=mean_tokens, memory_budget="240 kB")
    wanted = mean_tokens(whole(layers, tokens, edge_index, None), tokens.mask)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    # One node is also tried to see what layers make of it.
    assert sorted(asked[1:]) == list(range(400))


def test_what_masked_tokens_hold_changes_no_real_token():
    tokens, edge_index, _ = graph(7)
    layers = stack("layers")
    other = Tokens(tokens.h.masked_fill(~tokens.mask[:, :, None], 1e6), tokens.mask)
    found = [layerwise_inference(layers, one, edge_index, memory_budget="240 kB") for one in (tokens, other)]
    assert torch.equal(found[0][tokens.mask], found[1][tokens.mask])


def test_nothing_is_told_more_than_once_where_it_is_kept(monkeypatch):
    tokens, edge_index, _ = graph(8)
    layer, told = FIMPLayer(D, 2).double(), []
    tell = layer.tell
    monkeypatch.setattr(layer, "tell", lambda h, mask=None: told.append(len(h)) or tell(h, mask))
    monkeypatch.setattr(passes, "_REPEATS", 1.0)
    layerwise_inference([layer], tokens, edge_index, memory_budget="240 kB")
    assert len(told) > 2
    assert sum(told) == 400 + 1


def test_files_are_gone_whatever_happens_and_layers_are_as_they_were(tmp_path):
    tokens, edge_index, _ = graph(9)
    layers = stack("layers")
    layers[0].train()
    layers[1].eval()

    def files():
        gc.collect()
        opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
        return [*tmp_path.iterdir(), *(name for name in opened if name.startswith(str(tmp_path)))]

    blocks = layerwise_blocks(layers, tokens, edge_index, memory_budget="240 kB", folder=tmp_path)
    next(blocks)
    assert len(files()) == 2
    with pytest.raises(KeyboardInterrupt):
        blocks.throw(KeyboardInterrupt)
    assert files() == []
    assert [layer.training for layer in layers] == [True, False, True]


class Doubling(nn.Module):
    def tell(self, h, mask=None):
        return (h,)

    def hear(self, h, mask, told, mask_src, edge_index, edge_weight=None):
        return torch.cat([h, h], 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": []}, "layers: there is none"),
        ({"layers": [nn.Linear(D, D)]}, "number 0 is a Linear"),
        ({"layers": [Doubling()]}, r"number 0 makes \[5, 16\]"),
        ({"tokens": torch.zeros(3, T, D)}, "tokens: got Tensor"),
        ({"tokens": lambda nodes: None}, "num_nodes: None"),
        ({"tokens": Tokens(torch.zeros(0, T, D), torch.zeros(0, T)), "edge_index": NONE}, "tokens: those of no node"),
        ({"tokens": lambda nodes: None, "num_nodes": 400}, "tokens: wanted Tokens of h"),
        ({"memory_budget": "4 pounds"}, "memory_budget: '4 pounds'"),
        ({"memory_budget": 10_000}, "leave too little"),
        ({"folder": "/does/not/exist", "memory_budget": "240 kB"}, "folder: /does/not/exist"),
        ({"edge_index": torch.tensor([[0], [400]])}, "indices 400..400, wanted 0..399"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    tokens, edge_index, _ = graph(0)
    given = {"layers": stack("layers"), "tokens": tokens, "edge_index": edge_index, **changes}
    with pytest.raises(FIMPError, match=message):
        layerwise_inference(**given)
