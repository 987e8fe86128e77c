"""FIMP: message passing with foundation models on graphs of token sequences (arXiv 2210.09475)."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fimp import data, foundation, models, nn, ops, tasks, tokenizers, train
    from fimp.errors import FIMPError
    from fimp.estimators import CellTypeModel, ExpressionModel, ImageModel, NodeModel, RecordingModel, load

__version__ = "0.1.0"

# OpenMP threads that spin while they wait hold up the very threads they wait for as soon as anything else wants
# a core: a training step on two cores beside one busy process took 3.6 s instead of 0.4 s. Takes effect where fimp
# is imported before torch, as the command line does; a policy of the user's own stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_MODULES = ("analysis", "data", "foundation", "models", "nn", "ops", "tasks", "tokenizers", "train")
_NAMES = {
    "CellTypeModel": "fimp.estimators",
    "ExpressionModel": "fimp.estimators",
    "ImageModel": "fimp.estimators",
    "NodeModel": "fimp.estimators",
    "RecordingModel": "fimp.estimators",
    "load": "fimp.estimators",
    "FIMPError": "fimp.errors",
}

__all__ = [
    "CellTypeModel",
    "ExpressionModel",
    "FIMPError",
    "ImageModel",
    "NodeModel",
    "RecordingModel",
    "data",
    "foundation",
    "load",
    "models",
    "nn",
    "ops",
    "tasks",
    "tokenizers",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import on first use: torch, PyG and Lightning take seconds, and ``fimp --help`` needs none of them."""
    if name in _MODULES:
        return importlib.import_module(f"fimp.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'fimp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
