import torch

from fimp.models import GIN


def test_equals_a_loop_over_nodes(edge_index, whole):
    torch.manual_seed(0)
    model = GIN(5, 8, layers=2).eval()
    for conv in model.convs:
        conv.eps.data.fill_(0.3)
    x = torch.rand(30, 5)
    h = model.norms[0](model.input(x)).relu()
    for conv, residual, norm in zip(model.convs, model.residuals, model.norms[1:], strict=True):
        total = torch.stack([h[edge_index[0, edge_index[1] == node]].sum(0) for node in range(30)])
        h = norm(conv.nn(1.3 * h + total) + residual(h)).relu()
    torch.testing.assert_close(model(x, whole), h)
