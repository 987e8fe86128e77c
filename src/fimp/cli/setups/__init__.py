"""The flags of each task: one file per task, shared by all commands that train."""

from collections.abc import Callable

from fimp.cli.setups import celltype, expression, fmri, image, node, zeroshot
from fimp.cli.setups.base import Setup, with_setup

#: Flags of each task, by its name. A new task is a file and a line here.
SETUPS: dict[str, Callable[..., Setup]] = {
    "expression": expression.setup,
    "celltype": celltype.setup,
    "node": node.setup,
    "image": image.setup,
    "fmri": fmri.setup,
    "zeroshot": zeroshot.setup,
}

__all__ = ["SETUPS", "Setup", "with_setup"]
