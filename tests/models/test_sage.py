import torch

from fimp.models import SAGE


def test_equals_a_loop_over_nodes(edge_index, whole):
    torch.manual_seed(0)
    model = SAGE(5, 8, layers=2).eval()
    x = torch.rand(30, 5)
    h = model.norms[0](model.input(x)).relu()
    for conv, residual, norm in zip(model.convs, model.residuals, model.norms[1:], strict=True):
        rows = []
        for node in range(30):
            near = edge_index[0, edge_index[1] == node].tolist()
            mean = torch.stack([h[j] for j in near]).mean(0) if near else torch.zeros(8)
            rows.append(norm(conv.lin_l.weight @ mean + conv.lin_l.bias + residual.weight @ h[node]).relu())
        h = torch.stack(rows)
    torch.testing.assert_close(model(x, whole), h)
