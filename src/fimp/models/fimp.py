"""FIMP: nodes stay token sequences, messages are cross-attention between them (arXiv 2210.09475)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.fimp_rounds import FIMPRounds
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register
from fimp.nn.layers import FIMPLayer
from fimp.tokenizers.base import Tokens

#: Numbers that a neighbour's token says in the last layer where it has a name: it is no more than that and a value.
_SAID = 8


class FIMP(Backbone):
    """Token sequences with cross-node attention learned from scratch (FIMP-base, arXiv 2210.09475, section 3.2).

    A node shows two things, and is asked a third. Its *cell token* sums it up, its *sources* are its visible
    tokens, and *queries* are what is asked of the seeds. Tokens whose value is hidden are never sources, since
    they say nothing that the cell token does not.

    1. Summaries: in every layer but the last, the cell tokens hear their neighbours' cell tokens. That is one
       token per node, so these hops are cheap; they tell a node where in the tissue it lies.
    2. Queries read their own cell token: each adds it, and once more multiplied by a gate that the query makes, so that
       every gene has its own view of the cell.
    3. The last layer updates the seeds' queries by their own cell token and sources, and by their neighbours'
       sources, which they find by name, too, and where neighbours agree well by those of a second ring of nodes. The
       neighbours' cell tokens are left out here, so that what a message says can be read token by token. A token that
       has a name is little more than that and a value, and says eight numbers.

    Where nodes are asked for the very tokens that they show, see :class:`fimp.models.fimp_rounds.FIMPRounds`.

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
    names
        Whether tokens have names by which the last layer finds them.
    reach
        Rings of neighbours whose sources the last layer hears: 1, or 2 (which takes two layers).
    isolation
        Probability that a node hears none of its neighbours in a training step. Few nodes are learned by heart, and
        what they are known by is their neighbours, who have many more tokens than they have themselves; but messages
        that matter are then learned in fewer steps. What is learned so is used so: an answer is the mean of what is
        said with neighbours and without.

    Attributes
    ----------
    reach
        The same, and no more than there are layers: the sources given must be those of nodes within it.

    Raises
    ------
    FIMPError
        If the reach is neither 1 nor 2, or the isolation is no probability.
    """

    def __init__(
        self,
        dim: int,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        edge_dropout: float = 0.1,
        names: bool = False,
        reach: int = 1,
        isolation: float = 0.0,
    ) -> None:
        super().__init__()
        if reach not in (1, 2):
            raise FIMPError(f"fimp-base: reach={reach}; use 1 or 2")
        if not 0.0 <= isolation <= 1.0:
            raise FIMPError(f"fimp-base: isolation={isolation} is no probability; use 0.75, for instance, or 0")
        self.out_dim, self.hops, self.reach, self.isolation = dim, layers, min(reach, layers), isolation

        def layer(own: bool, last: bool) -> FIMPLayer:
            return FIMPLayer(
                dim,
                heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                edge_dropout=edge_dropout,
                own=own,
                names=own and names,
                value_dim=_SAID if own and names else None,
                far=last and self.reach == 2,
            )

        self.summaries = nn.ModuleList(layer(own=False, last=False) for _ in range(layers))
        self.gate = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.norm_read = nn.LayerNorm(dim)
        self.last = layer(own=True, last=True)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        cells: Tensor,
        sources: Tokens,
        queries: Tokens,
        graph: Subgraph,
        names: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """States of the seeds' queries.

        Parameters
        ----------
        cells
            Cell tokens of all nodes of the subgraph, ``[n, 1, D]``.
        sources
            Visible tokens of the nodes within ``reach`` hops, ``h [n_r, S, D]``.
        queries
            Tokens asked of the seeds, ``h [seeds, T, D]``.
        graph
            Subgraph with as many hops as there are layers.
        names
            Names of sources ``[n_r, S, D]`` and of queries ``[seeds, T, D]``, where tokens have names: what they are,
            apart from their values.

        Returns
        -------
        Tensor
            ``[seeds, T, D]``.
        """
        if self.isolation == 0.0:
            return self._answer(cells, sources, queries, graph, names, None)
        if self.training:
            hearing = torch.rand(len(cells), device=cells.device) >= self.isolation
            return self._answer(cells, sources, queries, graph, names, hearing)
        nobody = torch.zeros(len(cells), dtype=torch.bool, device=cells.device)
        both = [self._answer(cells, sources, queries, graph, names, hearing) for hearing in (None, nobody)]
        return torch.stack(both).mean(0)

    def _answer(
        self,
        cells: Tensor,
        sources: Tokens,
        queries: Tokens,
        graph: Subgraph,
        names: tuple[Tensor, Tensor] | None,
        hearing: Tensor | None,
    ) -> Tensor:
        """What is said if some nodes ``[n]`` hear their neighbours; None is all."""
        asking, own, edges = self._until_last(cells, sources, queries, graph, hearing)
        far = graph.second_ring() if self.reach == 2 else None
        far = far if far is None or hearing is None else far[:, hearing[far[1]]]
        return self.norm(self.last(asking, sources, edges, own, names, far))

    @torch.no_grad()
    def attention(
        self,
        cells: Tensor,
        sources: Tokens,
        queries: Tokens,
        graph: Subgraph,
        names: tuple[Tensor, Tensor] | None = None,
        *,
        loops: Tensor,
        near: Tensor,
        chunk: int = 1024,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Attention of the last layer, mean over heads, in chunks of edges.

        Rows sum to one minus what goes to the null token, or along self-loops to the node's cell token.

        Parameters
        ----------
        cells, sources, queries, graph, names
            As in :meth:`forward`.
        loops
            Self-loops ``[2, l]`` of seeds whose attention to their own sources is wanted.
        near
            Edges ``[2, e]`` of the graph, into seeds.
        chunk
            Most edges held at once.

        Yields
        ------
        tuple
            Edges ``[2, <= chunk]`` and attention ``[<= chunk, T, S]`` to the sources.
        """
        asking, own, _ = self._until_last(cells, sources, queries, graph, None)
        for edges in _chunks(loops, chunk):
            mine = Tokens(own.h[edges[1]], own.mask[edges[1]])
            yield edges, self.last.own_attention(asking[edges[1]], mine)[:, :, 1:]
        for edges in _chunks(near, chunk):
            yield edges, self.last.attention(asking, sources, edges, names)

    def _until_last(
        self,
        cells: Tensor,
        sources: Tokens,
        queries: Tokens,
        graph: Subgraph,
        hearing: Tensor | None,
    ) -> tuple[Tensor, Tokens, Tensor]:
        """What the last layer takes: queries, the seeds' own tokens, and edges."""
        edges = graph.edge_index
        for layer, (edges, count) in zip(self.summaries, graph.layers(), strict=True):
            edges = edges if hearing is None else edges[:, hearing[edges[1]]]
            cells = layer(cells[:count], Tokens(cells, torch.ones_like(cells[:, :, 0], dtype=torch.bool)), edges)
        seeds = graph.num_seeds
        mask = torch.cat([torch.ones_like(cells[:, :, 0], dtype=torch.bool), sources.mask[:seeds]], 1)
        asking = queries.h + cells + self.gate(queries.h) * self.norm_read(cells)
        return asking, Tokens(torch.cat([cells, sources.h[:seeds]], 1), mask), edges


def _chunks(edges: Tensor, chunk: int) -> Iterator[Tensor]:
    """Edges ``[2, e]`` in portions; none of no edges."""
    for start in range(0, edges.size(1), chunk):
        yield edges[:, start : start + chunk]


def _build(h: Hyperparameters, in_dim: int, names: bool, parts: bool) -> Backbone:
    dropout = h.decided_dropout
    if parts:
        return FIMPRounds(in_dim, h.layers + 1, h.heads, dropout, h.attention_dropout, dropout, h.decided_reach)
    reach = h.decided_reach if names else 1
    return FIMP(in_dim, h.layers, h.heads, dropout, h.attention_dropout, dropout, names, reach, h.decided_isolation)


register(
    ModelSpec(
        "fimp-base",
        "cross-node attention between tokens, learned from scratch",
        "tokens",
        _build,
        Hyperparameters(dim=128, layers=2, lr=3e-3, weight_decay=0.05),
    )
)
