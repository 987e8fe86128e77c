import pytest
import torch

from fimp.errors import FIMPError
from fimp.nn import StackConfig
from fimp.nn.stack_config import ACTIVATIONS


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_what_their_names_say(name):
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    want = {
        "relu": x.clamp(min=0),
        "gelu": 0.5 * x * (1 + torch.erf(x / 2**0.5)),
        "silu": x / (1 + torch.exp(-x)),
    }
    want["swish"] = want["swiglu"] = want["silu"]
    want["gelu_new"] = want["gelu_pytorch_tanh"] = (
        0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    )
    torch.testing.assert_close(ACTIVATIONS[name](x), want[name])


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"heads": 3}, "heads=3 does not divide dim=8"),
        ({"layers": 0}, "layers=0"),
        ({"hidden": 0}, "hidden=0"),
        ({"norm": "both"}, "norm='both'"),
        ({"activation": "tanh"}, "activation='tanh'"),
        ({"value_conv": 4}, "value_conv=4"),
        ({"landmarks": 0}, "landmarks=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_configurations_that_cannot_be_are_named(options, wanted):
    with pytest.raises(FIMPError, match=wanted):
        StackConfig(**({"dim": 8, "heads": 2, "hidden": 12, "layers": 3} | options))
