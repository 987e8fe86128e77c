"""FIMP: nodes stay token sequences, messages are cross-attention between them (arXiv 2210.09475)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register
from fimp.nn.layers import FIMPLayer
from fimp.tokenizers.base import Tokens


class FIMP(Backbone):
    """Token sequences with cross-node attention learned from scratch (FIMP-base).

    Two streams keep the cost low. *Sources* are what a node shows: its visible tokens, of which the first
    sums up the node. *Queries* are what is asked of the seeds. Tokens whose value is hidden are never
    sources, since they say nothing that the first token does not.

    1. All layers but the last update the first source token of every node by its neighbours' sources.
    2. The last layer updates the seeds' queries by their own sources and by their neighbours' visible tokens. The
       neighbours' first tokens are left out here, so that what a message says can be read token by token.

    Parameters
    ----------
    dim
        Model width D.
    layers
        Number of message passing layers, at least 1.
    heads
        Attention heads.
    dropout, attention_dropout, edge_dropout
        As in :class:`fimp.nn.FIMPLayer`.
    """

    def __init__(
        self,
        dim: int,
        layers: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        edge_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.out_dim, self.hops = dim, layers

        def layer(own: bool) -> FIMPLayer:
            return FIMPLayer(
                dim,
                heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                edge_dropout=edge_dropout,
                own=own,
            )

        self.summaries = nn.ModuleList(layer(own=False) for _ in range(layers - 1))
        self.last = layer(own=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, sources: Tokens, queries: Tokens, graph: Subgraph) -> Tensor:
        """States of the seeds' queries.

        Parameters
        ----------
        sources
            Visible tokens of all nodes of the subgraph, ``h [n, S, D]``; token 0 sums up the node.
        queries
            Tokens asked of the seeds, ``h [seeds, T, D]``.
        graph
            Subgraph with as many hops as there are layers.

        Returns
        -------
        Tensor
            ``[seeds, T, D]``.
        """
        told, queries, edges, own_mask = self._until_last(sources, queries, graph)
        return self.norm(self.last(queries.h, told, edges, own_mask))

    @torch.no_grad()
    def attention(self, sources: Tokens, queries: Tokens, graph: Subgraph, chunk: int = 1024) -> Iterator[Tensor]:
        """Attention of the last layer along its edges, mean over heads, in chunks ``[<= chunk, T, S]``."""
        told, queries, edges, _ = self._until_last(sources, queries, graph)
        for start in range(0, edges.size(1), chunk):
            yield self.last.attention(queries.h, told, edges[:, start : start + chunk])

    def _until_last(self, sources: Tokens, queries: Tokens, graph: Subgraph) -> tuple[Tokens, Tokens, Tensor, Tensor]:
        """What the last layer takes: sources for neighbours, queries, edges, and the seeds' mask of own sources."""
        *first, (edges, _) = graph.layers()
        for layer, (inner, count) in zip(self.summaries, first, strict=True):
            summary = layer(sources.h[:count, :1], sources, inner)
            sources = Tokens(torch.cat([summary, sources.h[:count, 1:]], 1), sources.mask[:count])
        summed_up = sources.h[: graph.num_seeds, :1]
        own_mask = sources.mask[: graph.num_seeds]
        told = torch.cat([torch.zeros_like(sources.mask[:, :1]), sources.mask[:, 1:]], 1)
        return Tokens(sources.h, told), Tokens(queries.h + summed_up, queries.mask), edges, own_mask


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return FIMP(in_dim, h.layers, h.heads, h.dropout, h.attention_dropout)


register(
    ModelSpec(
        "fimp-base",
        "cross-node attention between tokens, learned from scratch",
        "tokens",
        _build,
        Hyperparameters(dim=128, layers=1, lr=3e-3, weight_decay=0.05),
    )
)
