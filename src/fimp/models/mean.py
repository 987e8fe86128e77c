"""The model that knows nothing of a node: every prediction is a training mean."""

from __future__ import annotations

from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register


def _build(hyperparameters: Hyperparameters, in_dim: int) -> Backbone:
    return Backbone()


register(ModelSpec("mean", "training mean of what is predicted; the floor", "none", _build))
