import numpy as np
import torch

from fimp.tasks.attention import chosen_edges, named
from fimp.train import NeighborSampler


def test_self_loops_and_edges_into_seeds_are_chosen():
    graph = NeighborSampler(torch.tensor([[1, 2, 3, 0], [0, 0, 1, 3]]), 4, [-1, -1]).sample(np.arange(2))
    loops, near = chosen_edges(graph, lambda edges: torch.ones_like(edges[0], dtype=torch.bool))
    assert loops.tolist() == [[0, 1], [0, 1]]
    assert sorted(graph.nodes[near].T.tolist()) == [[1, 0], [2, 0], [3, 1]]
    loops, near = chosen_edges(graph, lambda edges: edges[1] == 1)
    assert loops.tolist() == [[1], [1]]
    assert graph.nodes[near].T.tolist() == [[3, 1]]


def test_leading_tokens_that_have_no_name_are_minus_one():
    receivers, senders = torch.tensor([[4, 5], [6, 7]]), torch.tensor([[1], [2], [3]])
    edges = torch.tensor([[2, 0], [1, 0]])
    (part,) = named(iter([(edges, torch.rand(2, 2, 3))]), receivers, senders)
    assert part.receiver.tolist() == [[6, 7], [4, 5]]
    assert part.sender.tolist() == [[-1, -1, 3], [-1, -1, 1]]
