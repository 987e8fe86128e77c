import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.data.in_edges import InEdges


@given(seed=st.integers(0, 10_000), edges=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_every_node_gets_its_sources_in_the_order_of_the_edges(seed, edges):
    generator = np.random.default_rng(seed)
    edge_index = generator.integers(0, 12, (2, edges))
    nodes = generator.permutation(12)[:7]
    found = InEdges(torch.from_numpy(edge_index), 12)
    edge, row = found.of(nodes)
    for place, node in enumerate(nodes):
        assert found.sources[edge[row == place]].tolist() == edge_index[0, edge_index[1] == node].tolist()
    assert found.degree.tolist() == np.bincount(edge_index[1], minlength=12).tolist()
    assert (edge_index[0, found.ids] == found.sources).all()
