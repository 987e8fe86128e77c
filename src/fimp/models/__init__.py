"""Whole networks: FIMP and each baseline in a file of its own. A new one is a file and a line here."""

from fimp.models import fimp, gcn, mean, mlp
from fimp.models.fimp import FIMP
from fimp.models.gcn import GCN
from fimp.models.mlp import MLP
from fimp.models.registry import (
    CONTROLS,
    Backbone,
    Hyperparameters,
    ModelChoice,
    ModelSpec,
    known_models,
    register,
    resolve,
    resolve_all,
)

__all__ = [
    "CONTROLS",
    "FIMP",
    "GCN",
    "MLP",
    "Backbone",
    "Hyperparameters",
    "ModelChoice",
    "ModelSpec",
    "fimp",
    "gcn",
    "known_models",
    "mean",
    "mlp",
    "register",
    "resolve",
    "resolve_all",
]
