"""Cells as a model wants them: a sequence of tokens, or one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fimp.data.masking import CellTokens
from fimp.data.subgraph import Subgraph
from fimp.tokenizers.base import Tokens
from fimp.tokenizers.gene import CellToken, GeneTokenizer
from fimp.tokenizers.profile import GeneProfile

#: Deviations from the mean beyond which a depth is not told apart.
_FAR = 4.0
#: By how much a depth is louder in a vector than a gene: as one number among thousands, it must not be lost.
_LOUD = 7.0


class CellEncoder(nn.Module):
    """Drawn tokens of cells, standardised and encoded.

    Values are shown in units of their gene's deviation from its mean. A model of tokens and one of vectors are
    told the same.

    Parameters
    ----------
    kind
        ``"tokens"`` or ``"vectors"``, as in :class:`fimp.models.ModelSpec`.
    gene_mean, gene_deviation
        Mean and standard deviation of each gene's values in training cells, ``[G]``.
    dim
        Model width D, for tokens.
    dropout
        Probability with which a gene is left out of the token that sums up the cell.
    embedding
        Gene embeddings ``[G, W]`` to use for tokens instead of learned ones. They stay as they are; how they are
        projected to D is learned.
    depth
        Mean and standard deviation of the cells' depth (:attr:`fimp.data.CellTokens.depth`), which is then told of
        every cell. None where values are no counts.

    Attributes
    ----------
    out_dim
        D for tokens, length of the vector for vectors.
    """

    gene_mean: Tensor
    gene_deviation: Tensor

    def __init__(
        self,
        kind: str,
        gene_mean: Tensor,
        gene_deviation: Tensor,
        dim: int,
        dropout: float = 0.0,
        embedding: Tensor | None = None,
        depth: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.register_buffer("gene_mean", gene_mean)
        self.register_buffer("gene_deviation", gene_deviation)
        if kind == "tokens":
            self.tokenizer = GeneTokenizer(len(gene_mean), dim, embedding=embedding, freeze=embedding is not None)
            self.cell_token = CellToken(len(gene_mean), dim, dropout, depth is not None)
            self.out_dim = dim
        else:
            self.profile = GeneProfile(len(gene_mean))
            self.out_dim = self.profile.out_dim + (depth is not None)

    def vectors(self, tokens: CellTokens) -> Tensor:
        """One vector per cell, ``[n, out_dim]``."""
        profile: Tensor = self.profile(tokens.genes, self._standardise(tokens), tokens.mask, tokens.hidden)
        depth = self._depth(tokens)
        return profile if depth is None else torch.cat([profile, _LOUD * depth], 1)

    def told(self, tokens: CellTokens, graph: Subgraph) -> tuple[Tensor, Tokens]:
        """Tokens that sum up the cells ``[n, 1, D]``, and the visible genes of those within one hop ``[n_1, S, D]``."""
        return self.summaries(tokens), self.sources(tokens.take(graph.num_nodes[1]).visible())

    def identities(self, tokens: CellTokens) -> Tensor:
        """Which gene each of the sources of :meth:`told` is, ``[n, S]``; -1 where there is none."""
        visible = tokens.visible()
        return visible.genes.masked_fill(~visible.mask, -1)

    def summaries(self, tokens: CellTokens) -> Tensor:
        """Tokens that sum up the cells, ``[n, 1, D]``."""
        values, depth = self._standardise(tokens), self._depth(tokens)
        out: Tensor = self.cell_token(tokens.genes, values, tokens.mask, tokens.hidden, self.tokenizer, depth)
        return out

    def sources(self, visible: CellTokens) -> Tokens:
        """Tokens of visible genes, ``h [n, S, D]``."""
        out: Tokens = self.tokenizer(visible.genes, self._standardise(visible), visible.mask)
        return out

    def queries(self, tokens: CellTokens, hidden: Tensor) -> Tokens:
        """Gene tokens with the values of ``hidden [n, T]`` hidden: ``[n, T, D]``."""
        out: Tokens = self.tokenizer(tokens.genes, self._standardise(tokens), tokens.mask, hidden)
        return out

    def names(self, tokens: CellTokens) -> Tensor:
        """What tokens are, apart from their values: ``[n, T, D]``."""
        return self.tokenizer.names(tokens.genes)

    def _depth(self, tokens: CellTokens) -> Tensor | None:
        """Depths in units of their deviation from their mean, ``[n, 1]``; 0 where a cell's is unknown."""
        if self.depth is None:
            return None
        mean, deviation = self.depth
        # A cell far from all of training says no more than that it is far.
        return ((tokens.depth - mean) / deviation).nan_to_num(nan=0.0).clamp(-_FAR, _FAR)[:, None]

    def _standardise(self, tokens: CellTokens) -> Tensor:
        return (tokens.values - self.gene_mean[tokens.genes]) / self.gene_deviation[tokens.genes]
