"""GPS graph transformer (Rampasek et al., arXiv 2205.12454)."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.nn import GPSConv, SAGEConv
from torch_geometric.utils import to_dense_batch

from fimp.data.subgraph import EgoGraphs, Subgraph
from fimp.models._stack import check_heads
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register

#: Hops that the neighbourhood of a seed reaches, however many layers run over it.
SCOPE = 2
#: Steps of the random walk of the positional encoding.
WALK = 8
#: Nodes whose walks are computed together: memory is bounded by what they reach in half a walk.
_CHUNK = 256


class GPS(Backbone):
    """PyG's ``GPSConv``: message passing (``SAGEConv``) beside attention over the whole graph (arXiv 2205.12454).

    "The whole graph" is a seed's own neighbourhood of two hops (:class:`fimp.data.subgraph.EgoGraphs`): attention over
    all nodes of a batch would make a node's prediction depend on what it is batched with. Norms are layer norms
    over a node's own values for the same reason.

    Parameters
    ----------
    in_dim
        Length F of a node's vector.
    dim
        Width D.
    layers
        Number of layers, all of them over the same neighbourhood.
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
        super().__init__()
        check_heads("gps", dim, heads)
        self.out_dim, self.hops = dim, SCOPE
        self.input = nn.Sequential(nn.Linear(in_dim, dim), nn.LayerNorm(dim), nn.ReLU(), nn.Dropout(dropout))
        self.position = nn.Linear(WALK, dim, bias=False)
        self.convs = nn.ModuleList(
            GPSConv(
                dim,
                SAGEConv(dim, dim),
                heads,
                dropout,
                norm="layer_norm",
                norm_kwargs={"mode": "node"},
                attn_kwargs={"dropout": attention_dropout},
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor, graph: Subgraph) -> Tensor:
        """``[n, F]`` to ``[seeds, D]``; the graph has ``encoding [n, 8]`` and ``egos``."""
        assert graph.encoding is not None
        assert graph.egos is not None
        h = (self.input(x) + self.position(graph.encoding))[graph.egos.member]
        *first, last = self.convs
        for conv in first:
            h = conv(h, graph.egos.edge_index, graph.egos.owner)
        return at_roots(last, h, graph.egos)


def at_roots(conv: GPSConv, x: Tensor, egos: EgoGraphs) -> Tensor:
    """``conv(x, egos.edge_index, egos.owner)[egos.root]`` without the other rows: ``[m, D]`` to ``[seeds, D]``.

    Nothing reads the other rows of the last layer, which are most of what it would compute.
    """

    def drop(h: Tensor) -> Tensor:
        return nn.functional.dropout(h, conv.dropout, conv.training)

    own = x[egos.root]
    src, dst = egos.edge_index[:, torch.isin(egos.edge_index[1], egos.root)]
    local = conv.conv((x, own), torch.stack([src, egos.owner[dst]]))
    dense, mask = to_dense_batch(x, egos.owner, batch_size=len(own))
    attended, _ = conv.attn(own[:, None], dense, dense, key_padding_mask=~mask, need_weights=False)
    out = conv.norm1(drop(local) + own) + conv.norm2(drop(attended[:, 0]) + own)
    rows: Tensor = conv.norm3(out + conv.mlp(out))
    return rows


def walk_encoding(edge_index: Tensor, num_nodes: int) -> Tensor:
    r"""Random-walk positional encoding ``[N, 8]`` (arXiv 2110.07875): return probabilities after 1 to 8 steps.

    The numbers of ``torch_geometric.transforms.AddRandomWalkPE``, without its powers of the whole matrix: a
    walk of a + b steps returns to i with probability :math:`\sum_j P^a_{ij} P^b_{ji}`, so half the steps
    forwards and half backwards from a chunk of nodes suffice. Nodes without edges get zeros.

    Parameters
    ----------
    edge_index
        ``[2, E]``, source in row 0.
    num_nodes
        N.
    """
    src, dst = edge_index.numpy()
    shape = (num_nodes, num_nodes)
    leaving = np.maximum(np.bincount(src, minlength=num_nodes), 1)
    forward = sparse.csr_matrix(((1.0 / leaving[src]).astype(np.float32), (src, dst)), shape=shape)
    backward = forward.T.tocsr()
    start = sparse.identity(num_nodes, dtype=np.float32, format="csr")
    out = np.zeros((num_nodes, WALK), np.float32)
    for first in range(0, num_nodes, _CHUNK):
        rows = slice(first, first + _CHUNK)
        there = back = start[rows]
        for step in range(WALK):
            if step % 2 == 0:
                there = there @ forward
            else:
                back = back @ backward
            out[rows, step] = np.asarray(there.multiply(back).sum(axis=1)).ravel()
    return torch.from_numpy(out)


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return GPS(in_dim, h.dim, h.layers, h.heads, h.decided_dropout, h.attention_dropout)


register(
    ModelSpec(
        "gps",
        "GPS graph transformer on each node's neighbourhood",
        "vectors",
        _build,
        Hyperparameters(dim=64, layers=1, lr=3e-3),
        encode=walk_encoding,
        egos=True,
    )
)
