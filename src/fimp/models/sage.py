"""GraphSAGE (Hamilton, Ying and Leskovec, arXiv 1706.02216)."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from fimp.data.subgraph import Subgraph
from fimp.models._stack import ConvStack
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register


class SAGE(ConvStack):
    """PyG's ``SAGEConv`` with mean aggregation in the common stack (arXiv 1706.02216).

    The residual path of the stack is its root weight.

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
        super().__init__(in_dim, dim, [SAGEConv(dim, dim, root_weight=False) for _ in range(layers)], dropout)

    def message(self, conv: nn.Module, h: Tensor, edges: Tensor, num_dst: int, graph: Subgraph) -> Tensor:
        """A linear map of the mean over in-neighbours."""
        return conv((h, None), edges, size=(len(h), num_dst))


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return SAGE(in_dim, h.dim, h.layers, h.decided_dropout)


register(ModelSpec("sage", "GraphSAGE, mean of neighbours", "vectors", _build, Hyperparameters(dim=256, lr=3e-3)))
