import pytest
import torch

from fimp.errors import FIMPError
from fimp.ops import edge_sum


def case(seed=0, edges=11):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    edge_index = torch.stack([torch.randint(high, (edges,), generator=generator) for high in (5, 4)])
    return draw(4, 3), draw(5, 2, 3), draw(5, 3), edge_index, draw(edges), draw(3, 3)


def run(x, y, z, edge_index, weight, learned, chunk):
    def message(x, y, z):
        return torch.tanh(x[:, None] @ learned + y) * z[:, None]

    return edge_sum(message, x, [y, z], edge_index, weight, (2, 3), chunk=chunk, parameters=[learned])


def slow(x, y, z, edge_index, weight, learned):
    src, dst = edge_index
    made = torch.tanh(x[dst][:, None] @ learned + y[src]) * z[src][:, None] * weight[:, None, None]
    return torch.zeros(4, 2, 3, dtype=made.dtype).index_add(0, dst, made)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_sums_and_gradients_are_those_of_all_edges_at_once(chunk):
    x, y, z, _, weight, learned = inputs = case()
    found, wanted = run(*inputs, chunk), slow(*inputs)
    torch.testing.assert_close(found, wanted)
    tensors = [x, y, z, weight, learned]
    for one, other in zip(
        torch.autograd.grad(found.sin().sum(), tensors), torch.autograd.grad(wanted.sin().sum(), tensors), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wanted", range(5))
def test_gradients_come_alone_too(wanted):
    inputs = case()
    tensors = [inputs[0], inputs[1], inputs[2], inputs[4], inputs[5]]
    for position, tensor in enumerate(tensors):
        tensor.requires_grad_(position == wanted)
    found, other = (
        torch.autograd.grad(out.sin().sum(), tensors[wanted])[0] for out in (run(*inputs, 3), slow(*inputs))
    )
    torch.testing.assert_close(found, other)


def test_no_edges_give_zeros():
    x, y, z, _, _, learned = case()
    out = run(x, y, z, torch.empty(2, 0, dtype=torch.long), torch.empty(0, dtype=torch.float64), learned, 3)
    assert out.shape == (4, 2, 3)
    assert (out == 0).all()
    out.sum().backward()
    assert (x.grad == 0).all()


def test_edges_outside_the_nodes_are_named():
    x, y, z, edge_index, weight, learned = case()
    with pytest.raises(FIMPError, match=r"edge_sum: edge_index has source indices .* wanted 0\.\.1"):
        run(x, y[:2], z[:2], edge_index, weight, learned, 3)
    with pytest.raises(FIMPError, match="edge_sum: edge_weight has shape"):
        run(x, y, z, edge_index, weight[:3], learned, 3)
