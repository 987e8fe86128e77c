import numpy as np
import pytest
import torch

from fimp.train import NeighborSampler


@pytest.fixture
def edge_index():
    """120 random edges between 30 nodes, without self-loops; some repeat, the last two nodes have none."""
    src, dst = np.random.default_rng(0).integers(0, 28, (2, 120))
    return torch.from_numpy(np.stack([src, dst])[:, src != dst])


@pytest.fixture
def whole(edge_index):
    """Subgraph of all 30 nodes, in order, with two hops."""
    return NeighborSampler(edge_index, 30, [-1, -1]).sample(np.arange(30))
