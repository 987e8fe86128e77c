import numpy as np
import torch
from torch_geometric.nn import GCNConv

from fimp.models import GCN
from fimp.train import NeighborSampler


def reference(model, x, edge_index):
    """The same weights with PyG's own normalisation on the whole graph."""
    h = model.norms[0](model.input(x)).relu()
    for conv, residual, norm in zip(model.convs, model.residuals, model.norms[1:], strict=True):
        whole = GCNConv(conv.in_channels, conv.out_channels)
        whole.load_state_dict(conv.state_dict())
        h = norm(whole(h, edge_index) + residual(h)).relu()
    return h


def test_equals_pygs_layers_on_the_whole_graph(edge_index, whole):
    torch.manual_seed(0)
    model = GCN(5, 8, layers=2).eval()
    x = torch.rand(30, 5)
    torch.testing.assert_close(model(x, whole), reference(model, x, edge_index))


def test_a_seed_alone_is_normalised_by_degrees_in_the_whole_graph(edge_index):
    torch.manual_seed(0)
    model = GCN(5, 8, layers=2).eval()
    x = torch.rand(30, 5)
    graph = NeighborSampler(edge_index, 30, [-1, -1]).sample(np.array([3]))
    torch.testing.assert_close(model(x[graph.nodes], graph), reference(model, x, edge_index)[[3]])
