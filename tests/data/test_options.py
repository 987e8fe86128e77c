from dataclasses import asdict

import pytest
import yaml

from fimp.data.options import CellOptions
from fimp.errors import FIMPError


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"graph": "ring"}, "--graph"),
        ({"neighbors": 0}, "--neighbors"),
        ({"fraction": 0.0}, "--fraction"),
        ({"fraction": 1.5}, "--fraction"),
        ({"fraction": float("nan")}, "--fraction"),
        ({"genes": 0}, "--genes"),
        ({"outside": True}, "--outside"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_file_is_read(options, word):
    with pytest.raises(FIMPError, match=word):
        CellOptions(**options)


@pytest.mark.parametrize("sections", [(), ("a",), ("a", "b")])
def test_options_come_back_from_a_configuration_file(sections):
    options = CellOptions(test_section=sections, section="slice", label="type")
    assert CellOptions(**yaml.safe_load(yaml.safe_dump(asdict(options)))) == options


def test_a_single_test_section_is_a_name():
    assert CellOptions(test_section="left").test_section == ("left",)
    assert CellOptions(test_section=["left"]).test_section == ("left",)
