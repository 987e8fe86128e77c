import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fimp.train import NeighborSampler


def random_graph(seed, nodes=30, edges=90):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, nodes, (2, edges)))


def ego_edges(graph, index):
    """Edges of one seed's graph as pairs of nodes."""
    egos = graph.egos
    inside = egos.owner[egos.edge_index[1]] == index
    pairs = graph.nodes[egos.member[egos.edge_index[:, inside]].numpy()]
    return sorted(map(tuple, pairs.T.tolist()))


@given(seed=st.integers(0, 1000), hops=st.integers(0, 3))
def test_an_ego_graph_is_the_subgraph_of_its_seed_alone(seed, hops):
    sampler = NeighborSampler(random_graph(seed), 30, [-1] * hops, egos=True)
    seeds = np.random.default_rng(seed).choice(30, 6, replace=False)
    graph = sampler.sample(seeds)
    egos = graph.egos
    assert torch.equal(egos.owner, egos.owner.sort().values)
    assert torch.equal(egos.owner[egos.edge_index[0]], egos.owner[egos.edge_index[1]])
    assert graph.nodes[egos.member[egos.root].numpy()].tolist() == seeds.tolist()
    assert egos.owner[egos.root].tolist() == list(range(6))
    for index, node in enumerate(seeds):
        alone = NeighborSampler(random_graph(seed), 30, [-1] * hops).sample(np.array([node]))
        members = graph.nodes[egos.member[egos.owner == index].numpy()]
        assert sorted(members.tolist()) == sorted(alone.nodes.tolist())
        assert ego_edges(graph, index) == sorted(map(tuple, alone.nodes[alone.edge_index.numpy()].T.tolist()))


@given(seed=st.integers(0, 1000), fanout=st.integers(1, 4))
def test_capped_ego_graphs_do_not_depend_on_the_batch(seed, fanout):
    sampler = NeighborSampler(random_graph(seed), 30, [fanout] * 2, seed, egos=True)
    whole = sampler.sample(np.arange(30), epoch=seed)
    assert np.bincount(whole.egos.edge_index[1]).max() <= fanout
    for node in (0, 7, 29):
        assert ego_edges(sampler.sample(np.array([node]), epoch=seed), 0) == ego_edges(whole, node)
        assert ego_edges(sampler.sample(np.array([29 - node, node]), epoch=seed), 1) == ego_edges(whole, node)


def test_a_cap_is_drawn_anew_in_every_epoch():
    sampler = NeighborSampler(random_graph(0, edges=300), 30, [3], egos=True)
    first, second = (ego_edges(sampler.sample(np.array([4]), epoch), 0) for epoch in (0, 1))
    assert first != second


def test_seeds_without_neighbours_are_graphs_of_one_node():
    graph = NeighborSampler(torch.zeros(2, 0, dtype=torch.int64), 5, [-1, -1], egos=True).sample(np.array([3, 1]))
    assert graph.egos.member.tolist() == graph.egos.owner.tolist() == graph.egos.root.tolist() == [0, 1]
    assert graph.egos.edge_index.shape == (2, 0)


@pytest.mark.parametrize("egos", [False, True])
def test_everything_moves_to_a_device(egos):
    sampler = NeighborSampler(random_graph(0), 30, [-1], encoding=torch.rand(30, 2), egos=egos)
    graph = sampler.sample(np.arange(4)).to(torch.device("meta"))
    parts = [graph.edge_index, graph.degree, graph.encoding, *(graph.egos or ())]
    assert {part.device.type for part in parts} == {"meta"}


@given(seed=st.integers(0, 1000), hops=st.integers(1, 3), most=st.integers(1, 40))
def test_a_second_ring_is_what_two_steps_reach_and_one_does_not(seed, hops, most):
    edges = random_graph(seed, edges=60)
    seeds = np.random.default_rng(seed).choice(30, 6, replace=False)
    graph = NeighborSampler(edges, 30, [-1] * hops).sample(seeds)
    src, dst = graph.nodes[graph.second_ring(most).numpy()]
    into = [set() for _ in range(30)]
    walks = np.zeros((30, 30), dtype=int)
    for a, b in edges.T.tolist():
        into[b].add(a)
        walks[a, b] += 1
    walks = walks @ walks
    for node in seeds:
        wanted = {far for near in into[node] for far in into[near]} - into[node] - {node} if hops > 1 else set()
        found = src[dst == node].tolist()
        assert len(found) == len(set(found)) == min(most, len(wanted))
        assert set(found) <= wanted
        if found:
            left_out = [walks[far, node] for far in wanted - set(found)]
            assert max(left_out, default=0) <= min(walks[far, node] for far in found)


def test_a_second_ring_does_not_depend_on_the_batch():
    sampler = NeighborSampler(random_graph(0), 30, [-1, -1])
    whole = sampler.sample(np.arange(30))
    src, dst = whole.nodes[whole.second_ring(3).numpy()]
    for node in range(30):
        alone = sampler.sample(np.array([node]))
        assert sorted(alone.nodes[alone.second_ring(3)[0].numpy()]) == sorted(src[dst == node])


@given(seed=st.integers(0, 1000), reach=st.integers(0, 4), most=st.integers(1, 40))
def test_what_is_within_reach_is_what_walks_reach_nearest_first(seed, reach, most):
    edges = random_graph(seed, edges=60)
    graph = NeighborSampler(edges, 30, [-1] * 4).sample(np.random.default_rng(seed).permutation(30))
    found = graph.within(reach, most)
    assert (found[1].diff() >= 0).all()
    src, dst = graph.nodes[found.numpy()]
    hops = np.full((30, 30), 99)
    step = np.zeros((30, 30), dtype=int)
    np.add.at(step, tuple(edges.numpy()), 1)
    walks = np.eye(30, dtype=int)
    times = np.zeros((30, 30), dtype=int)
    for hop in range(reach + 1):
        first = (walks > 0) & (hops == 99)
        hops[first], times[first] = hop, walks[first]
        walks = walks @ step
    for node in range(30):
        heard = src[dst == node]
        assert heard[0] == node
        wanted = np.flatnonzero(hops[:, node] <= reach)
        order = np.lexsort((wanted, -times[wanted, node], hops[wanted, node]))
        assert heard.tolist() == wanted[order][:most].tolist()


def test_what_is_within_reach_does_not_depend_on_the_batch():
    sampler = NeighborSampler(random_graph(0), 30, [-1] * 4)
    whole = sampler.sample(np.arange(30))
    src, dst = whole.nodes[whole.within(2, 5).numpy()]
    for node in range(30):
        alone = sampler.sample(np.array([node]))
        into = alone.within(2, 5)
        assert alone.nodes[into[0, into[1] == 0].numpy()].tolist() == src[dst == node].tolist()
