"""FIMP in rounds: what nodes tell each other is what they could not yet explain (arXiv 2210.09475, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.models.registry import Backbone
from fimp.nn.layers import FIMPLayer, HalfNorm
from fimp.tokenizers.base import Tokens

#: Where it starts how much more nodes hear of each other for agreeing: by e to the power of this.
_AGREEMENT = 7.0
#: Edges whose agreement is computed at once.
_CHUNK = 16_384


class FIMPRounds(Backbone):
    r"""Cross-node attention for nodes that are asked for the tokens they show, as patches of a signal.

    The first half of a token's channels holds values, the second what it is. Every token of every node, visible or not,
    begins with a guess :math:`E^{(0)}` of its value. A round is a layer of Algorithm 1 in which visible tokens tell
    their own node and those within reach how far the guess is off:

    .. math::
        E_i \leftarrow E_i + \mathrm{AGG}_{j \in N(i) \cup \{i\}}\, w_{ji}\, \mathrm{message}(H_i, X_j - E_j)

    so that the first round smooths what is seen and later ones what smoothing has left, which is how kriging is
    computed step by step. All rounds are run twice. At first nodes find each other by name, which is what is known of
    them from training, and all weights are 1. Then the sequences as guessed tell how far two nodes agree *here*,

    .. math::
        w_{ji} = \exp\left(\kappa\, (\cos(Z_i, Z_j) - 1)\right), \qquad
        Z = X \text{ where visible, } E \text{ elsewhere,}

    the guess begins anew, and names tell tokens of a node apart but not nodes. What nodes have in common in one brain,
    or one hour, they may not in another; what they show says it.

    Parameters
    ----------
    dim
        Width D, even.
    rounds
        Layers, at least 1.
    heads
        Attention heads.
    dropout, attention_dropout, edge_dropout
        As in :class:`fimp.nn.FIMPLayer`.
    reach
        Hops within which nodes hear each other in a round (:meth:`fimp.data.subgraph.Subgraph.within`).
    """

    def __init__(
        self,
        dim: int,
        rounds: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        edge_dropout: float = 0.1,
        reach: int = 4,
    ) -> None:
        super().__init__()
        self.out_dim, self.hops, self.reach = dim, 2 * rounds * reach, reach
        self.rounds = nn.ModuleList(
            FIMPLayer(
                dim,
                heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                edge_dropout=edge_dropout,
                own=False,
                names=True,
                heard=True,
            )
            for _ in range(rounds)
        )
        self.agreement = nn.Parameter(torch.tensor([_AGREEMENT]))
        self.norm = HalfNorm(dim)

    def forward(self, sources: Tokens, guesses: Tensor, graph: Subgraph, names: tuple[Tensor, Tensor]) -> Tensor:
        """States of the seeds' tokens.

        Parameters
        ----------
        sources
            Tokens of all nodes of the subgraph, ``h [n, T, D]``, with a mask of what is visible.
        guesses
            The same tokens with a first guess in place of values, ``[n, T, D]``.
        graph
            Subgraph of ``hops`` hops.
        names
            Names of all tokens ``[n, T, D]``: whole ones, and those that tell tokens of a node apart alone.

        Returns
        -------
        Tensor
            ``[seeds, T, D]``; the first half of the channels holds the last guess.
        """
        edges = graph.within(self.reach)
        states = self._pass(sources, guesses, edges, names[1], self._weights(sources, guesses, edges, names[0]))
        return self.norm(states[: graph.num_seeds])

    @torch.no_grad()
    def attention(
        self, sources: Tokens, guesses: Tensor, graph: Subgraph, names: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Share of every node within reach in what the seeds' tokens hear, mean over rounds and heads.

        Arguments as in :meth:`forward`.

        Returns
        -------
        tuple
            Edges ``[2, E]`` into the seeds, self-loops among them, and shares ``[E, T]``
            (:meth:`fimp.nn.CrossNodeAttention.shares`).
        """
        edges = graph.within(self.reach)
        shares: list[Tensor] = []
        weight = self._weights(sources, guesses, edges, names[0])
        self._pass(sources, guesses, edges, names[1], weight, shares)
        seeds = edges[1] < graph.num_seeds
        return edges[:, seeds], torch.stack(shares).mean(0)[seeds]

    def _weights(self, sources: Tokens, guesses: Tensor, edges: Tensor, whole: Tensor) -> Tensor:
        """How much the message of every edge counts, ``[E]``: by how far the first pass finds that nodes agree."""
        # Both passes have the same weights, which learn from the second.
        with torch.no_grad():
            states = self._pass(sources, guesses, edges, whole)
            cosine = self._cosine(sources, states, edges)
        return torch.exp(self.agreement * (cosine - 1.0))

    def _pass(
        self,
        sources: Tokens,
        states: Tensor,
        edges: Tensor,
        names: Tensor,
        weight: Tensor | None = None,
        shares: list[Tensor] | None = None,
    ) -> Tensor:
        """All rounds. Hidden tokens, which are most where most is hidden, are left out of what is told.

        Where a list is given, the shares of edges in each round are put there.
        """
        half = sources.h.size(-1) // 2
        place = sources.mask.int().argsort(dim=1, descending=True, stable=True)[:, : int(sources.mask.sum(1).max())]
        values, mask = _pick(sources.h[..., :half], place), sources.mask.gather(1, place)
        called = _pick(names, place), names
        for layer in self.rounds:
            said = _pick(states, place)
            told = torch.cat([values - said[..., :half], said[..., half:]], -1)
            if shares is not None:
                assert isinstance(layer, FIMPLayer)
                shares.append(layer.shares(states, Tokens(told, mask), edges, called, weight))
            states = layer(states, Tokens(told, mask), edges, names=called, edge_weight=weight)
        return states

    @staticmethod
    def _cosine(sources: Tokens, states: Tensor, edges: Tensor) -> Tensor:
        """How far the sequences of two nodes agree, visible or guessed, along every edge: ``[E]``."""
        half = sources.h.size(-1) // 2
        shown = torch.where(sources.mask[:, :, None], sources.h[..., :half], states[..., :half]).flatten(1)
        unit = nn.functional.normalize(shown, dim=1)
        return torch.cat([(unit[src] * unit[dst]).sum(1) for src, dst in edges.split(_CHUNK, 1)])


def _pick(tokens: Tensor, place: Tensor) -> Tensor:
    """Some tokens of every node: ``[n, T, D]`` and their places ``[n, S]`` to ``[n, S, D]``."""
    return tokens.gather(1, place[:, :, None].expand(-1, -1, tokens.size(2)))
