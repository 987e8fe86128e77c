"""Whole networks: FIMP and each baseline in a file of its own. A new one is a file and a line here."""

from fimp.models import fimp, gat, gaussian, gcn, gin, gps, graphmae, interpolate, mean, mlp, sage
from fimp.models.fimp import FIMP
from fimp.models.gat import GAT
from fimp.models.gcn import GCN
from fimp.models.gin import GIN
from fimp.models.gps import GPS
from fimp.models.graphmae import GraphMAE
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
from fimp.models.sage import SAGE

__all__ = [
    "CONTROLS",
    "FIMP",
    "GAT",
    "GCN",
    "GIN",
    "GPS",
    "MLP",
    "SAGE",
    "Backbone",
    "GraphMAE",
    "Hyperparameters",
    "ModelChoice",
    "ModelSpec",
    "fimp",
    "gat",
    "gaussian",
    "gcn",
    "gin",
    "gps",
    "graphmae",
    "interpolate",
    "known_models",
    "mean",
    "mlp",
    "register",
    "resolve",
    "resolve_all",
    "sage",
]
