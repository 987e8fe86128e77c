"""The rule that looks at a node alone: a straight line between what it shows."""

from __future__ import annotations

from torch import Tensor

from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register
from fimp.tokenizers.filling import interpolated


class Interpolation(Backbone):
    """Linear interpolation between visible stretches of a signal."""

    hops = 0

    def forward(self, values: Tensor, hidden: Tensor) -> Tensor:
        """Patches ``[n, P, L]``, hidden where ``[n, P]`` says so, to patches ``[n, P, L]``."""
        return interpolated(values, hidden)


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return Interpolation()


register(
    ModelSpec("interpolate", "a straight line between visible stretches of a signal; nothing to train", "rule", _build)
)
