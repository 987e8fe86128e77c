import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import AddRandomWalkPE
from torch_geometric.utils import coalesce

from fimp.models import GPS, gps
from fimp.models.gps import WALK, at_roots, walk_encoding
from fimp.train import NeighborSampler


@pytest.mark.parametrize("chunk", [7, 4096])
def test_encodings_are_those_of_pyg(edge_index, chunk, monkeypatch):
    monkeypatch.setattr(gps, "_CHUNK", chunk)
    edges = coalesce(edge_index)
    wanted = AddRandomWalkPE(WALK)(Data(edge_index=edges, num_nodes=30)).random_walk_pe
    torch.testing.assert_close(walk_encoding(edges, 30), wanted)


def test_encodings_are_return_probabilities():
    ring = torch.stack([torch.arange(4), (torch.arange(4) + 1) % 4])
    both = torch.cat([ring, ring.flip(0)], 1)
    wanted = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0, 0.5, 0.0, 0.5])
    torch.testing.assert_close(walk_encoding(both, 5), torch.cat([wanted.expand(4, -1), torch.zeros(1, 8)]))


def test_repeated_edges_count_as_often_as_they_stand():
    # From 0, two of three edges lead to 1, from which the walk returns.
    edges = torch.tensor([[0, 0, 0, 1, 2], [1, 1, 2, 0, 2]])
    torch.testing.assert_close(walk_encoding(edges, 3)[0, :2], torch.tensor([0.0, 2 / 3]))


def run(model, x, edge_index, seeds):
    sampler = NeighborSampler(edge_index, 30, [-1, -1], encoding=walk_encoding(edge_index, 30), egos=True)
    graph = sampler.sample(np.array(seeds))
    with torch.no_grad():
        return model(x[graph.nodes], graph)


def test_attention_reaches_all_of_a_seeds_graph_and_nothing_else():
    # Two paths, 4 -> 3 -> 2 -> 1 -> 0 and 9 -> ... -> 5: the graph of 0 is 0, 1, 2.
    edge_index = torch.tensor([[4, 3, 2, 1, 9, 8, 7, 6], [3, 2, 1, 0, 8, 7, 6, 5]])
    torch.manual_seed(0)
    model = GPS(5, 8, layers=1, heads=2).eval()
    x = torch.rand(30, 5)
    before = run(model, x, edge_index, [0, 5])
    for node in range(1, 10):
        changed = x.clone()
        changed[node] += 1.0
        after = run(model, changed, edge_index, [0, 5])
        # One layer reaches the second hop: by attention, since the convolution reaches the first alone.
        assert torch.equal(after[0], before[0]) == (node not in (1, 2))


def test_positions_matter(edge_index):
    torch.manual_seed(0)
    model = GPS(5, 8, layers=2, heads=2).eval()
    x = torch.rand(30, 5)
    before = run(model, x, edge_index, range(28))
    model.position.weight.data.zero_()
    assert not torch.allclose(before, run(model, x, edge_index, range(28)))


def test_norms_are_over_a_nodes_own_values():
    model = GPS(5, 8, layers=1, heads=2)
    for norm in (model.convs[0].norm1, model.convs[0].norm2, model.convs[0].norm3):
        x = torch.rand(6, 8)
        torch.testing.assert_close(norm(x)[:2], norm(x[:2]))


def test_the_last_layer_is_pygs_layer_at_the_seeds(edge_index):
    torch.manual_seed(0)
    conv = GPS(5, 8, layers=1, heads=2).eval().convs[0]
    egos = NeighborSampler(edge_index, 30, [-1, -1], egos=True).sample(np.array([3, 29, 11, 7])).egos
    x = torch.rand(len(egos.member), 8)
    wanted = conv(x, egos.edge_index, egos.owner)[egos.root]
    torch.testing.assert_close(at_roots(conv, x, egos), wanted)
