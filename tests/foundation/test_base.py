from pathlib import Path

import pytest
import torch
from torch import nn

from fimp.errors import FIMPError
from fimp.foundation.base import Rows, fill

SOURCE = Path("folder/weights.pt")


def case():
    module = nn.ModuleDict({"q": nn.Linear(3, 2), "v": nn.Linear(3, 2), "norm": nn.LayerNorm(2)})
    names = {
        "q.weight": Rows("fused.weight", 0, 2),
        "q.bias": Rows("fused.bias", 0, 2),
        "v.weight": Rows("fused.weight", 1, 2),
        "v.bias": Rows("fused.bias", 1, 2),
        "norm.weight": "ln.gamma",
        "norm.bias": "ln.beta",
    }
    state = {
        "fused.weight": torch.randn(4, 3),
        "fused.bias": torch.randn(4),
        "ln.gamma": torch.randn(2),
        "ln.beta": torch.randn(2).half(),
    }
    return module, state, names


def test_every_tensor_goes_to_its_place():
    module, state, names = case()
    fill(module, state | {"old.x": torch.zeros(1)}, names, source=SOURCE, known_unused=["old.*"])
    assert torch.equal(module["q"].weight, state["fused.weight"][:2])
    assert torch.equal(module["v"].bias, state["fused.bias"][2:])
    assert torch.equal(module["norm"].bias, state["ln.beta"].float())
    assert module["norm"].bias.dtype == torch.float32
    # A copy: training does not write into the file's tensors.
    assert module["norm"].weight.data_ptr() != state["ln.gamma"].data_ptr()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"ln.beta": None}, r"key 'ln\.beta' is missing, wanted shape \[2\]"),
        ({"fused.weight": None}, r"key 'fused\.weight' is missing, wanted shape \[4, 3\]"),
        ({"fused.bias": torch.zeros(2)}, r"key 'fused\.bias' has shape \[2\], wanted \[4\]"),
        ({"ln.beta": torch.zeros(1, 2)}, r"key 'ln\.beta' has shape \[1, 2\], wanted \[2\]"),
        ({"ln.beta": torch.zeros(2, dtype=torch.int8)}, "has type torch.int8, wanted torch.float32"),
        ({"more": torch.zeros(5)}, r"key 'more' with shape \[5\] is unexpected"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change, wanted):
    module, state, names = case()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {key: value for key, value in (state | change).items() if value is not None}
    with pytest.raises(FIMPError, match=wanted) as error:
        fill(module, state, names, source=SOURCE)
    assert str(error.value).startswith(str(SOURCE))
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
