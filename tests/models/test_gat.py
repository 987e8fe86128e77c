import torch
from torch_geometric.nn import GATConv

from fimp.models import GAT


def test_equals_pygs_layers_on_the_whole_graph(edge_index, whole):
    torch.manual_seed(0)
    model = GAT(5, 8, layers=2, heads=2).eval()
    x = torch.rand(30, 5)
    h = model.norms[0](model.input(x)).relu()
    for conv, residual, norm in zip(model.convs, model.residuals, model.norms[1:], strict=True):
        assert isinstance(conv, GATConv)
        h = norm(conv(h, edge_index) + residual(h)).relu()
    torch.testing.assert_close(model(x, whole), h)


def test_neighbours_are_weighed_by_what_they_show(edge_index, whole):
    torch.manual_seed(0)
    model = GAT(5, 8, layers=1, heads=2).eval()
    h = torch.randn(30, 8)
    _, (edges, weights) = model.convs[0](h, edge_index, return_attention_weights=True)
    node = int(edge_index[1].bincount().argmax())
    assert weights[edges[1] == node].std(0).min() > 0.01
