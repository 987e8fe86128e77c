import numpy as np
import pytest
import torch

from fimp.models import GraphMAE
from fimp.models.graphmae import GAMMA, scaled_cosine_error
from fimp.train import NeighborSampler


@pytest.fixture
def graph(edge_index):
    """All 30 nodes, with a hop more than the encoder of :func:`model` has layers."""
    return NeighborSampler(edge_index, 30, [-1] * 3).sample(np.arange(30))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GraphMAE(5, 8, layers=2, heads=2).eval()


def test_the_error_is_zero_for_parallel_vectors_alone():
    x = torch.rand(6, 5) + 0.1
    assert scaled_cosine_error(3.0 * x, x) < 1e-9
    assert scaled_cosine_error(-x, x) == pytest.approx(2.0**GAMMA)
    turned = torch.stack([-x[:, 1], x[:, 0]], 1)
    assert scaled_cosine_error(turned, x[:, :2]) == pytest.approx(1.0)
    assert torch.isfinite(scaled_cosine_error(torch.rand(3, 5), torch.zeros(3, 5)))


def test_a_masked_nodes_own_code_does_not_reach_its_reconstruction(model, graph, edge_index):
    x, masked = torch.rand(30, 5), torch.zeros(30, dtype=torch.bool)
    node = 28  # without neighbours: nothing but its own code could tell of it
    masked[node] = True
    changed = x.clone()
    changed[node] += 1.0
    before, after = model.reconstruct(x, masked, graph), model.reconstruct(changed, masked, graph)
    assert torch.equal(before[node], after[node])
    masked[node] = False
    before, after = model.reconstruct(x, masked, graph), model.reconstruct(changed, masked, graph)
    assert not torch.allclose(before[node], after[node])


def test_reconstructions_come_from_neighbours(model, graph, edge_index):
    node = int(edge_index[1].bincount().argmax())
    near = int(edge_index[0, edge_index[1] == node][0])
    masked = torch.zeros(30, dtype=torch.bool)
    masked[node] = True
    x = torch.rand(30, 5)
    changed = x.clone()
    changed[near] += 1.0
    assert not torch.allclose(
        model.reconstruct(x, masked, graph)[node], model.reconstruct(changed, masked, graph)[node]
    )


def test_pretraining_learns_what_neighbours_tell(model, graph, edge_index):
    """Vectors are equal along edges of a ring of cliques, so a masked one can be reconstructed."""
    groups = torch.arange(30) // 5
    pairs = torch.cartesian_prod(torch.arange(30), torch.arange(30)).t()
    same = pairs[:, (groups[pairs[0]] == groups[pairs[1]]) & (pairs[0] != pairs[1])]
    graph = NeighborSampler(same, 30, [-1] * 3).sample(np.arange(30))
    x = torch.nn.functional.one_hot(groups, 6).float()[:, :5] + 0.1
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(120):
        loss = model.pretraining_loss(x, graph)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])


def test_the_loss_repeats_from_a_seed_and_one_seed_is_enough(model, edge_index):
    graph = NeighborSampler(edge_index, 30, [-1] * 3).sample(np.array([4]))
    x = torch.rand(len(graph.nodes), 5)
    losses = []
    for seed in (1, 1, *range(20)):
        torch.manual_seed(seed)
        losses.append(model.pretraining_loss(x, graph).item())
    assert losses[0] == losses[1]
    assert np.isfinite(losses).all()
    assert len(set(losses)) > 5


def test_fine_tuning_uses_the_encoder_alone(model, whole):
    x = torch.rand(30, 5)
    assert torch.equal(model(x, whole), model.encoder(x, whole))
