import numpy as np
import pytest
import torch

from fimp.errors import FIMPError
from fimp.models import resolve
from fimp.models._stack import adjacency, sum_weights
from fimp.train import NeighborSampler


def test_an_adjacency_sums_over_weighted_and_repeated_edges():
    edges = torch.tensor([[2, 0, 2, 1], [0, 1, 0, 1]])
    matrix = adjacency(edges, torch.tensor([1.0, 2.0, 3.0, 4.0]), 2, 3)
    assert torch.equal(matrix.to_dense(), torch.tensor([[0.0, 0.0, 4.0], [2.0, 4.0, 0.0]]))


def test_sampled_sums_have_the_expectation_of_whole_ones():
    edge_index = torch.from_numpy(np.random.default_rng(0).integers(0, 20, (2, 200)))
    values = torch.rand(20, dtype=torch.float64)

    def total(fanout, epoch):
        graph = NeighborSampler(edge_index, 20, [fanout]).sample(np.arange(20), epoch)
        weight = sum_weights(graph.edge_index, 20, graph).double()
        return torch.zeros(20, dtype=torch.float64).index_add(
            0, graph.edge_index[1], weight * values[graph.edge_index[0]]
        )

    exact = total(-1, 0)
    draws = torch.stack([total(3, epoch) for epoch in range(400)])
    assert draws.std(0).min() > 0.1
    torch.testing.assert_close(draws.mean(0), exact, rtol=0, atol=5 * float(draws.std(0).max()) / 20)


@pytest.mark.parametrize("name", ["gat", "gps", "graphmae"])
def test_heads_that_do_not_divide_the_width_are_refused(name):
    choice = resolve(name, dim=18, heads=4)
    with pytest.raises(FIMPError, match="heads=4 does not divide dim=18"):
        choice.spec.build(choice.hyperparameters, 5)


@pytest.mark.parametrize("name", ["gat", "gps", "graphmae"])
def test_attention_dropout_acts_in_training_alone(name):
    choice = resolve(name, dim=8, heads=2, dropout=0.0, attention_dropout=0.5)
    model = choice.spec.build(choice.hyperparameters, 5)
    edge_index = torch.from_numpy(np.random.default_rng(0).integers(0, 20, (2, 80)))
    encoding = None if choice.spec.encode is None else choice.spec.encode(edge_index, 20)
    graph = NeighborSampler(edge_index, 20, [-1] * 2, encoding=encoding, egos=choice.spec.egos).sample(np.arange(20))
    x = torch.rand(len(graph.nodes), 5)
    assert not torch.equal(model(x, graph), model(x, graph))
    model.eval()
    assert torch.equal(model(x, graph), model(x, graph))
