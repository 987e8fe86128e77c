"""Graph attention network (Velickovic et al., arXiv 1710.10903)."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import GATConv

from fimp.data.subgraph import Subgraph
from fimp.models._stack import ConvStack, check_heads
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register


class GAT(ConvStack):
    """PyG's ``GATConv`` with self-loops in the common stack (arXiv 1710.10903).

    Parameters
    ----------
    in_dim
        Length F of a node's vector.
    dim
        Width D, over all heads together.
    layers
        Number of convolutions.
    heads
        Attention heads.
    dropout, attention_dropout
        Probabilities of dropping hidden values and attention weights.

    Raises
    ------
    FIMPError
        If ``heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
    ) -> None:
        check_heads("gat", dim, heads)
        convs = [GATConv(dim, dim // heads, heads, dropout=attention_dropout) for _ in range(layers)]
        super().__init__(in_dim, dim, convs, dropout)

    def message(self, conv: nn.Module, h: Tensor, edges: Tensor, num_dst: int, graph: Subgraph) -> Tensor:
        """Attention-weighted mean over in-neighbours and the node itself."""
        return conv((h, h[:num_dst]), edges)


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return GAT(in_dim, h.dim, h.layers, h.heads, h.decided_dropout, h.attention_dropout)


register(ModelSpec("gat", "graph attention network", "vectors", _build, Hyperparameters(dim=256, lr=3e-3)))
