import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.data.in_edges import InEdges
from fimp.errors import FIMPError
from fimp.train.inference.blocks import Plan, locality_order


def cost(nodes, sources):
    return 2 * nodes + sources


@given(seed=st.integers(0, 1000), edges=st.integers(0, 200), most=st.integers(60, 200), loops=st.booleans())
@settings(max_examples=40, deadline=None)
def test_blocks_fit_and_hold_every_edge_once(seed, edges, most, loops):
    generator = np.random.default_rng(seed)
    edge_index = torch.from_numpy(generator.integers(0, 30, (2, edges)))
    weight = torch.rand(edges)
    found = InEdges(edge_index, 30)
    plan = Plan(found, weight[torch.from_numpy(found.ids).long()], cost, most)
    rows, seen = [], 0
    for block in plan.blocks(loops):
        assert block.start == seen
        seen = block.stop
        if not loops:
            assert cost(block.stop - block.start, len(block.sources)) <= most
        assert (np.diff(block.sources) > 0).all()
        sources = block.sources[block.edge_index[0].numpy()]
        rows += zip(
            sources.tolist(), (block.edge_index[1] + block.start).tolist(), block.edge_weight.tolist(), strict=True
        )
    assert seen == 30
    wanted = [*zip(*edge_index.tolist(), weight.tolist(), strict=True)]
    there = {s for s, d, _ in wanted if s == d}
    assert sorted(rows) == sorted(wanted + [(i, i, 1.0) for i in range(30) if loops and i not in there])


def test_a_node_whose_sources_do_not_fit_is_an_error():
    edge_index = torch.stack([torch.arange(1, 100), torch.zeros(99, dtype=torch.int64)])
    with pytest.raises(FIMPError, match="memory_budget: 99 nodes"):
        Plan(InEdges(edge_index, 100), None, cost, 50)


@pytest.mark.parametrize("placed", [True, False])
def test_the_order_brings_neighbours_together(placed):
    side, generator = 60, np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    number = generator.permutation(side * side).reshape(side, side)
    across = np.stack([number[:, 1:].ravel(), number[:, :-1].ravel()])
    along = np.stack([number[1:].ravel(), number[:-1].ravel()])
    edge_index = torch.from_numpy(np.concatenate([across, along, across[::-1], along[::-1]], 1))
    positions = torch.empty(side * side, 2)
    positions[number.ravel()] = torch.from_numpy(np.stack([x.ravel(), y.ravel()], 1)).float()

    def repeats(order):
        place = torch.empty(side * side, dtype=torch.int64)
        place[torch.from_numpy(order)] = torch.arange(side * side)
        return Plan(InEdges(place[edge_index], side * side), None, cost, 1500).repeats

    order = locality_order(edge_index, side * side, positions if placed else None)
    assert sorted(order.tolist()) == list(range(side * side))
    assert repeats(order) < 1.6 < 3.0 < repeats(np.arange(side * side))
