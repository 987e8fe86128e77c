"""What the convolutional baselines have in common."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.registry import Backbone


class ConvStack(Backbone):
    r"""Convolutions in the recipe with which classic networks match graph transformers (arXiv 2406.08993).

    .. math::
        h^0 &= \mathrm{drop}(\mathrm{relu}(\mathrm{norm}(W_0 x))) \\
        h^{l+1} &= \mathrm{drop}(\mathrm{relu}(\mathrm{norm}(\mathrm{conv}^l(h^l) + W^l h^l)))

    The norm is over a node's own values, since one over the batch would make a node's result depend on others.

    Parameters
    ----------
    in_dim
        Length F of a node's vector.
    dim
        Width D.
    convs
        PyG's layers, ``[n, D]`` to ``[n', D]``.
    dropout
        Probability of dropping a hidden value.
    """

    def __init__(self, in_dim: int, dim: int, convs: Sequence[nn.Module], dropout: float) -> None:
        super().__init__()
        self.out_dim, self.hops = dim, len(convs)
        self.input = nn.Linear(in_dim, dim)
        self.convs = nn.ModuleList(convs)
        self.residuals = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in convs)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(len(convs) + 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: Subgraph) -> Tensor:
        """``[n, F]`` to ``[seeds, D]``."""
        return self.states(x, graph, graph.layers())

    def states(self, x: Tensor, graph: Subgraph, layers: Iterable[tuple[Tensor, int]]) -> Tensor:
        """``[n, F]`` to ``[n', D]``, the destinations of the last of the given layers of the graph."""
        h = self._activate(self.input(x), 0)
        for index, (edges, num_dst) in enumerate(layers):
            # Products of sparse matrices know no bfloat16 on a CPU.
            with torch.autocast(h.device.type, enabled=False):
                message = self.message(self.convs[index], h.float(), edges, num_dst, graph)
            h = self._activate(message + self.residuals[index](h[:num_dst]), index + 1)
        return h

    def message(self, conv: nn.Module, h: Tensor, edges: Tensor, num_dst: int, graph: Subgraph) -> Tensor:
        """One convolution: states ``[n, D]`` along ``edges [2, e]`` to ``[num_dst, D]``."""
        raise NotImplementedError

    def _activate(self, h: Tensor, index: int) -> Tensor:
        out: Tensor = self.dropout(self.norms[index](h).relu())
        return out


def adjacency(edges: Tensor, weight: Tensor, num_dst: int, num_src: int) -> Tensor:
    """Weighted edges as the sparse matrix ``[num_dst, num_src]`` that PyG's layers multiply with.

    A product holds one row per node, where gathering holds one per edge; repeated edges add up.
    """
    # Said explicitly, since torch warns where it is left to its default.
    matrix = torch.sparse_coo_tensor(edges.flip(0), weight, (num_dst, num_src), check_invariants=False).coalesce()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def sum_weights(edges: Tensor, num_dst: int, graph: Subgraph) -> Tensor:
    """Weights ``[e]`` with which a sum over sampled edges expects the sum over all: 1 where all are there."""
    scale = graph.degree[:num_dst] / torch.bincount(edges[1], minlength=num_dst).clamp(min=1)
    return scale[edges[1]]


def check_heads(model: str, dim: int, heads: int) -> None:
    """Refuse heads that do not divide the width.

    Raises
    ------
    FIMPError
        If they do not.
    """
    if heads < 1 or dim % heads:
        raise FIMPError(f"{model}: heads={heads} does not divide dim={dim}; use heads=4 and dim=128, for instance")
