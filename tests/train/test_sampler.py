import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.errors import FIMPError
from fimp.train import NeighborSampler


def random_graph(seed, nodes=40, edges=160):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, nodes, (2, edges)))


def pairs(graph):
    src, dst = graph.nodes[graph.edge_index.numpy()]
    return sorted(zip(src.tolist(), dst.tolist(), strict=True))


@given(seed=st.integers(0, 1000), hops=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_without_fanout_every_edge_into_every_inner_node_is_there_once(seed, hops):
    edge_index = random_graph(seed)
    seeds = np.random.default_rng(seed).choice(40, 5, replace=False)
    graph = NeighborSampler(edge_index, 40, [-1] * hops).sample(seeds)
    assert graph.nodes[: graph.num_seeds].tolist() == seeds.tolist()
    assert len(set(graph.nodes.tolist())) == len(graph.nodes) == graph.num_nodes[-1]
    inner = set()
    reached = set(seeds.tolist())
    for _ in range(hops):
        inner |= reached
        reached = {int(s) for s, d in edge_index.t().tolist() if d in inner}
    wanted = sorted((s, d) for s, d in edge_index.t().tolist() if d in inner)
    assert pairs(graph) == wanted
    assert graph.degree.tolist() == np.bincount(edge_index[1], minlength=40)[graph.nodes].tolist()


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_layers_read_only_what_the_layer_before_wrote(seed):
    graph = NeighborSampler(random_graph(seed), 40, [3, 2, 2], seed).sample(np.arange(6), epoch=seed)
    readable = graph.num_nodes[-1]
    for edges, num_dst in graph.layers():
        assert edges.numel() == 0 or (edges[0].max() < readable and edges[1].max() < num_dst)
        readable = num_dst
    assert readable == 6


@given(seed=st.integers(0, 1000), fanout=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_fanout_bounds_the_in_neighbours_and_draws_without_replacement(seed, fanout):
    edge_index = random_graph(seed)
    graph = NeighborSampler(edge_index, 40, [fanout], seed).sample(np.arange(40))
    degree = np.bincount(edge_index[1], minlength=40)
    assert np.bincount(graph.edge_index[1], minlength=40).tolist() == np.minimum(degree, fanout).tolist()
    every = sorted(map(tuple, edge_index.t().tolist()))
    for pair in set(pairs(graph)):
        assert pairs(graph).count(pair) <= every.count(pair)


def test_a_nodes_neighbours_do_not_depend_on_the_batch():
    sampler = NeighborSampler(random_graph(1), 40, [2], seed=5)

    def neighbours(seeds, epoch):
        graph = sampler.sample(np.array(seeds), epoch)
        return sorted(s for s, d in pairs(graph) if d == 7)

    assert neighbours([7], 3) == neighbours([1, 7, 30], 3) == neighbours(list(range(40))[::-1], 3)
    assert any(neighbours([7], 3) != neighbours([7], epoch) for epoch in range(4, 12))


def test_isolated_nodes_and_empty_graphs_are_legal():
    graph = NeighborSampler(torch.zeros(2, 0, dtype=torch.int64), 5, [-1, -1]).sample(np.array([3, 1]))
    assert graph.nodes.tolist() == [3, 1]
    assert [(edges.shape, n) for edges, n in graph.layers()] == [((2, 0), 2), ((2, 0), 2)]


def test_fanout_zero_is_refused():
    with pytest.raises(FIMPError, match="fanouts"):
        NeighborSampler(random_graph(0), 40, [0])


def test_nodes_come_with_their_rows_of_the_encoding():
    encoding = torch.rand(40, 3)
    graph = NeighborSampler(random_graph(2), 40, [-1], encoding=encoding).sample(np.array([9, 4]))
    assert torch.equal(graph.encoding, encoding[torch.from_numpy(graph.nodes)])
