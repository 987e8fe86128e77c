import pytest
import torch
from torch.nn import functional as F

from fimp.errors import FIMPError
from fimp.nn import StackConfig, TransformerLayer


def made(**options):
    torch.manual_seed(0)
    layer = TransformerLayer(StackConfig(8, 2, 12, 1, **options)).double()
    for parameter in layer.parameters():
        # Biases and norms that start at zero and one would hide that they are not used.
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.eval()


def tokens(length=6, seed=0):
    return torch.randn(4, length, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_value_convolution_wants_equal_lengths():
    layer = made(value_conv=3)
    key, value = layer.keys_values(tokens(length=5))
    with pytest.raises(FIMPError, match="got 6 queries and 5 source tokens"):
        layer.attend(layer.queries(tokens()), key, value)


def test_swiglu_gates_what_layer_scale_scales():
    layer = made(norm="pre", activation="swiglu", layer_scale=True)
    x, context = tokens(), tokens(seed=1)
    middle = x + layer.scale1 * layer.out_proj(context)
    normed = layer.norm2(middle)
    want = middle + layer.scale2 * layer.linear2(F.silu(layer.gate(normed)) * layer.linear1(normed))
    torch.testing.assert_close(layer.finish(x, context), want)


def test_layers_without_query_bias_have_none():
    layer = made(qkv_bias=False)
    assert layer.q_proj.bias is layer.k_proj.bias is layer.v_proj.bias is None
    assert layer.out_proj.bias is not None
