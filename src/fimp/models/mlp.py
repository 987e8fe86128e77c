"""Multi-layer perceptron on a node's own vector: what a model reaches without the graph."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register


class MLP(Backbone):
    """Layers of linear, layer norm, ReLU and dropout.

    Parameters
    ----------
    in_dim
        Length F of a node's vector.
    dim
        Width D.
    layers
        Hidden layers.
    dropout
        Probability of dropping a hidden value.
    """

    hops = 0

    def __init__(self, in_dim: int, dim: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.out_dim = dim
        widths = [in_dim] + [dim] * layers
        self.net = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU(), nn.Dropout(dropout))
                for a, b in pairwise(widths)
            )
        )

    def forward(self, x: Tensor, graph: Subgraph) -> Tensor:
        """``[n, F]`` to ``[seeds, D]``; only the seeds are looked at."""
        out: Tensor = self.net(x[: graph.num_seeds])
        return out


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return MLP(in_dim, h.dim, h.layers, h.decided_dropout)


register(
    ModelSpec("mlp", "perceptron on the node alone, no graph", "vectors", _build, Hyperparameters(dim=256, lr=3e-3))
)
