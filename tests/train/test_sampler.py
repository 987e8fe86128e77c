import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fimp.errors import FIMPError
from fimp.train import NeighborSampler, sampler


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


def test_hubs_are_drawn_from_without_a_look_at_all_their_edges(monkeypatch):
    edge_index = torch.stack([torch.arange(100_000) % 5000 + 1, torch.zeros(100_000, dtype=torch.int64)])
    hub = NeighborSampler(edge_index, 5001, [8], seed=3)
    hashed = []
    uniform = sampler.hash_uniform

    def counted(*keys):
        out = uniform(*keys)
        hashed.append(out.size)
        return out

    monkeypatch.setattr(sampler, "hash_uniform", counted)
    graphs = [hub.sample(np.array(seeds), epoch) for seeds in ([0], [7, 0, 3]) for epoch in (1, 2)]
    assert sum(hashed) <= 4 * 8
    drawn = [sorted(s for s, d in pairs(graph) if d == 0) for graph in graphs]
    assert all(len(one) == 8 for one in drawn)
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_hubs_edges_are_drawn_once_each_and_equally_often(seed):
    edge_index = torch.stack([torch.arange(1, 601), torch.zeros(600, dtype=torch.int64)])
    hub = NeighborSampler(edge_index, 601, [5], seed)
    drawn = np.stack([hub.sample(np.array([0]), epoch).nodes[1:] for epoch in range(60)])
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    # 300 draws of 1..600 have a mean within five deviations of the expected one.
    assert abs(drawn.mean() - 300.5) < 5 * 600 / 12**0.5 / 300**0.5


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_index_types_do_not_matter(kind):
    graph = NeighborSampler(random_graph(4).to(kind), 40, [2, 3], 1).sample(np.arange(5, dtype=np.int32))
    wanted = NeighborSampler(random_graph(4), 40, [2, 3], 1).sample(np.arange(5))
    assert torch.equal(graph.edge_index, wanted.edge_index)
    assert graph.nodes.dtype == np.int64
    assert graph.nodes.tolist() == wanted.nodes.tolist()


def test_it_collates_for_a_data_loader_and_draws_anew_in_another_epoch():
    draw = NeighborSampler(random_graph(5), 40, [2], seed=1)
    graphs = list(DataLoader(torch.arange(40), batch_size=16, collate_fn=draw))
    assert [graph.num_seeds for graph in graphs] == [16, 16, 8]
    assert pairs(graphs[1]) == pairs(draw.sample(np.arange(16, 32)))
    draw.epoch = 7
    assert pairs(draw(torch.arange(40))) == pairs(draw.sample(np.arange(40), 7)) != pairs(draw.sample(np.arange(40)))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([[0, 5], [1, 2]]), "nodes 0..5, wanted 0..4"),
        (torch.tensor([[0, -1], [1, 2]]), "nodes -1..0"),
        (torch.zeros(3, 2, dtype=torch.int64), r"\[3, 2\], wanted a tensor \[2, E\]"),
        (torch.zeros(2, 2), "float32, wanted int64"),
        (np.zeros((2, 2)), "ndarray"),
    ],
)
def test_edges_that_do_not_fit_are_named(edges, message):
    with pytest.raises(FIMPError, match=message):
        NeighborSampler(edges, 5, [2])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (np.array([3, 40]), "seed 40 is no node"),
        (np.array([-1]), "seed -1"),
        (np.array([2, 3, 2]), "twice"),
        (np.array([[1]]), r"\[1, 1\]"),
        (np.ones(40, dtype=bool), "boolean mask"),
    ],
)
def test_seeds_that_do_not_fit_are_named_and_leave_the_sampler_usable(seeds, message):
    draw = NeighborSampler(random_graph(6), 40, [2])
    wanted = pairs(draw.sample(np.arange(10)))
    with pytest.raises(FIMPError, match=message):
        draw.sample(seeds)
    assert pairs(draw.sample(np.arange(10))) == wanted


def test_an_interruption_leaves_the_sampler_usable(monkeypatch):
    draw = NeighborSampler(random_graph(6), 40, [2, 2])
    wanted = pairs(draw.sample(np.arange(10)))

    def interrupted(nodes, *rest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(draw, "_neighbors", interrupted)
        with pytest.raises(KeyboardInterrupt):
            draw.sample(np.arange(20))
    assert pairs(draw.sample(np.arange(10))) == wanted
