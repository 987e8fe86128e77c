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

    A node shows two things, and is asked a third. Its *summary tokens* sum it up, its *sources* are its visible
    tokens, and *queries* are what is asked of the seeds. Tokens whose value is hidden are never sources, since
    they say nothing that the summary tokens do not.

    1. In every layer but the last, summary tokens hear their neighbours' summary tokens. These are few, so the hops
       are cheap; they tell a node where in the graph it lies.
    2. The last layer updates the seeds' queries by their own summary tokens and sources, and by their neighbours'
       sources. The neighbours' summary tokens are left out here, so that what a message says can be read token by
       token.

    Both results are returned: a head can answer from the summary, which is dense supervision at little cost, and let
    the queries' states correct it.

    Parameters
    ----------
    dim
        Model width D.
    layers
        Hops that summaries travel, at least 1.
    heads
        Attention heads.
    dropout, attention_dropout, edge_dropout
        As in :class:`fimp.nn.FIMPLayer`.
    """

    def __init__(
        self,
        dim: int,
        layers: int = 2,
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

        self.summaries = nn.ModuleList(layer(own=False) for _ in range(layers))
        self.last = layer(own=True)
        self.norm, self.norm_summary = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, summaries: Tensor, sources: Tokens, queries: Tokens, graph: Subgraph) -> tuple[Tensor, Tensor]:
        """States of the seeds' queries and summaries.

        Parameters
        ----------
        summaries
            Summary tokens of all nodes of the subgraph, ``[n, R, D]``.
        sources
            Visible tokens of the nodes within one hop, ``h [n_1, S, D]``.
        queries
            Tokens asked of the seeds, ``h [seeds, T, D]``.
        graph
            Subgraph with as many hops as there are layers.

        Returns
        -------
        tuple
            ``[seeds, T, D]`` and ``[seeds, R D]``.
        """
        summary, asking, own, edges = self._until_last(summaries, sources, queries, graph)
        states: Tensor = self.norm(self.last(asking, sources, edges, own))
        return states, self.norm_summary(summary).flatten(1)

    @torch.no_grad()
    def attention(
        self, summaries: Tensor, sources: Tokens, queries: Tokens, graph: Subgraph, chunk: int = 1024
    ) -> Iterator[Tensor]:
        """Attention of the last layer along its edges, mean over heads, in chunks ``[<= chunk, T, S]``.

        Arguments as in :meth:`forward`.
        """
        _, asking, _, edges = self._until_last(summaries, sources, queries, graph)
        for start in range(0, edges.size(1), chunk):
            yield self.last.attention(asking, sources, edges[:, start : start + chunk])

    def _until_last(
        self, summaries: Tensor, sources: Tokens, queries: Tokens, graph: Subgraph
    ) -> tuple[Tensor, Tensor, Tokens, Tensor]:
        """The seeds' summaries, and what the last layer takes: queries, the seeds' own tokens, and edges."""
        edges = graph.edge_index
        for layer, (edges, count) in zip(self.summaries, graph.layers(), strict=True):
            real = torch.ones_like(summaries[:, :, 0], dtype=torch.bool)
            summaries = layer(summaries[:count], Tokens(summaries, real), edges)
        real = torch.ones_like(summaries[:, :, 0], dtype=torch.bool)
        seeds = graph.num_seeds
        own = Tokens(torch.cat([summaries, sources.h[:seeds]], 1), torch.cat([real, sources.mask[:seeds]], 1))
        return summaries, queries.h + summaries[:, :1], own, edges


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return FIMP(in_dim, h.layers, h.heads, h.decided_dropout, h.attention_dropout, edge_dropout=h.decided_dropout)


register(
    ModelSpec(
        "fimp-base",
        "cross-node attention between tokens, learned from scratch",
        "tokens",
        _build,
        Hyperparameters(dim=128, layers=2, lr=3e-3, weight_decay=0.05),
    )
)
