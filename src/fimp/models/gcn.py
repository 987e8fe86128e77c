"""Graph convolutional network (Kipf and Welling, arXiv 1609.02907)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from fimp.data.subgraph import Subgraph
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register


class GCN(Backbone):
    """A projection and PyG's ``GCNConv`` layers, each with layer norm, ReLU and dropout.

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
        super().__init__()
        self.out_dim, self.hops = dim, layers
        self.input = nn.Linear(in_dim, dim)
        self.convs = nn.ModuleList(GCNConv(dim, dim, normalize=False) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers + 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: Subgraph) -> Tensor:
        """``[n, F]`` to ``[seeds, D]``."""
        h = self._activate(self.input(x), 0)
        factor = (graph.degree + 1).to(h.dtype).rsqrt()
        for index, (edges, num_dst) in enumerate(graph.layers()):
            loops = torch.arange(num_dst, device=edges.device).expand(2, -1)
            edges = torch.cat([edges, loops], dim=1)
            weight = factor[edges[0]] * factor[edges[1]]
            h = self._activate(self.convs[index](h, edges, weight)[:num_dst], index + 1)
        return h

    def _activate(self, h: Tensor, index: int) -> Tensor:
        out: Tensor = self.dropout(self.norms[index](h).relu())
        return out


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return GCN(in_dim, h.dim, h.layers, h.dropout)


register(ModelSpec("gcn", "graph convolutional network", "vectors", _build, Hyperparameters(dim=256)))
