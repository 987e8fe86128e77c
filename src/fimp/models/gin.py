"""Graph isomorphism network (Xu et al., arXiv 1810.00826)."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import GINConv

from fimp.data.subgraph import Subgraph
from fimp.models._stack import ConvStack, adjacency, sum_weights
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register


class GIN(ConvStack):
    """PyG's ``GINConv`` with a learned epsilon and a perceptron of two layers, in the common stack (arXiv 1810.00826).

    A sum over sampled neighbours is scaled to the sum over all that it stands for.

    Parameters
    ----------
    in_dim
        Length F of a node's vector.
    dim
        Width D.
    layers
        Number of convolutions.
    dropout
        Probability of dropping a hidden value.
    """

    def __init__(self, in_dim: int, dim: int, layers: int = 2, dropout: float = 0.1) -> None:
        def perceptron() -> nn.Module:
            return nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim))

        super().__init__(in_dim, dim, [GINConv(perceptron(), train_eps=True) for _ in range(layers)], dropout)

    def message(self, conv: nn.Module, h: Tensor, edges: Tensor, num_dst: int, graph: Subgraph) -> Tensor:
        """A perceptron of the sum over in-neighbours and (1 + epsilon) times the node itself."""
        weight = sum_weights(edges, num_dst, graph)
        return conv((h, h[:num_dst]), adjacency(edges, weight, num_dst, len(h)))


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return GIN(in_dim, h.dim, h.layers, h.decided_dropout)


register(
    ModelSpec(
        "gin", "graph isomorphism network, sum of neighbours", "vectors", _build, Hyperparameters(dim=256, lr=3e-3)
    )
)
