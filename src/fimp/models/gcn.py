"""Graph convolutional network (Kipf and Welling, arXiv 1609.02907)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from fimp.data.subgraph import Subgraph
from fimp.models._stack import ConvStack, adjacency, sum_weights
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register


class GCN(ConvStack):
    """PyG's ``GCNConv`` in the common stack (arXiv 1609.02907).

    The symmetric normalisation uses degrees in the whole graph, so that a node's result does not depend on
    the batch it is computed in.

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
        super().__init__(in_dim, dim, [GCNConv(dim, dim, normalize=False) for _ in range(layers)], dropout)

    def message(self, conv: nn.Module, h: Tensor, edges: Tensor, num_dst: int, graph: Subgraph) -> Tensor:
        """Sum over in-edges and a self-loop, each divided by the root of both ends' degrees."""
        loops = torch.arange(num_dst, device=edges.device)
        factor = (graph.degree + 1).to(h.dtype).rsqrt()
        weight = sum_weights(edges, num_dst, graph) * factor[edges[0]] * factor[edges[1]]
        weight = torch.cat([weight, factor[:num_dst].square()])
        return conv(h, adjacency(torch.cat([edges, loops.expand(2, -1)], 1), weight, num_dst, len(h)))


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return GCN(in_dim, h.dim, h.layers, h.decided_dropout)


register(ModelSpec("gcn", "graph convolutional network", "vectors", _build, Hyperparameters(dim=256, lr=3e-3)))
