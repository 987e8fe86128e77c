import pytest
import torch

from fimp.errors import FIMPError
from fimp.nn import CrossNodeAttention


@pytest.mark.parametrize("bias", [True, False])
def test_one_edge_equals_multihead_attention(bias):
    torch.manual_seed(0)
    mha = torch.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True).double()
    if bias:
        torch.nn.init.normal_(mha.in_proj_bias)
        torch.nn.init.normal_(mha.out_proj.bias)
    message = CrossNodeAttention.from_multihead(mha)
    h_dst, h_src = torch.randn(1, 4, 12, dtype=torch.float64), torch.randn(1, 6, 12, dtype=torch.float64)
    mask = torch.tensor([[True, True, False, True, False, True]])
    wanted, weights = mha(h_dst, h_src, h_src, key_padding_mask=~mask)
    edge = torch.tensor([[0], [0]])
    torch.testing.assert_close(message(h_dst, h_src, edge, mask), wanted)
    torch.testing.assert_close(message.attention(h_dst, h_src, edge, mask), weights)


def test_dropout_only_in_training():
    torch.manual_seed(0)
    message = CrossNodeAttention(8, 2, dropout=0.5)
    h, edge = torch.randn(2, 3, 8), torch.tensor([[0, 1], [1, 0]])
    assert not torch.equal(message(h, h, edge), message(h, h, edge))
    message.eval()
    assert torch.equal(message(h, h, edge), message(h, h, edge))


def test_multihead_with_other_widths_is_refused():
    with pytest.raises(FIMPError, match="kdim"):
        CrossNodeAttention.from_multihead(torch.nn.MultiheadAttention(8, 2, kdim=4))
    with pytest.raises(FIMPError, match="add_bias_kv"):
        CrossNodeAttention.from_multihead(torch.nn.MultiheadAttention(8, 2, add_bias_kv=True))


def test_heads_must_divide_the_width():
    with pytest.raises(FIMPError, match="heads=3 does not divide dim=8"):
        CrossNodeAttention(8, 3)


def test_repr_is_readable():
    assert repr(CrossNodeAttention(8, 2)).startswith("CrossNodeAttention(\n  dim=8, heads=2, dropout=0.0")
