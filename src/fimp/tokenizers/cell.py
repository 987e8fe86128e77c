"""Cells as a model wants them: a sequence of tokens, or one vector."""

from __future__ import annotations

from torch import Tensor, nn

from fimp.data.masking import CellTokens
from fimp.data.subgraph import Subgraph
from fimp.tokenizers.base import Tokens
from fimp.tokenizers.gene import CellToken, GeneTokenizer
from fimp.tokenizers.profile import GeneProfile


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
    ) -> None:
        super().__init__()
        self.register_buffer("gene_mean", gene_mean)
        self.register_buffer("gene_deviation", gene_deviation)
        if kind == "tokens":
            self.tokenizer = GeneTokenizer(len(gene_mean), dim, embedding=embedding, freeze=embedding is not None)
            self.cell_token = CellToken(len(gene_mean), dim, dropout)
            self.out_dim = dim
        else:
            self.profile = GeneProfile(len(gene_mean))
            self.out_dim = self.profile.out_dim

    def vectors(self, tokens: CellTokens) -> Tensor:
        """One vector per cell, ``[n, out_dim]``."""
        out: Tensor = self.profile(tokens.genes, self._standardise(tokens), tokens.mask, tokens.hidden)
        return out

    def told(self, tokens: CellTokens, graph: Subgraph) -> tuple[Tensor, Tokens]:
        """Tokens that sum up the cells ``[n, 1, D]``, and the visible genes of those within one hop ``[n_1, S, D]``."""
        return self.summaries(tokens), self.sources(tokens.take(graph.num_nodes[1]).visible())

    def identities(self, tokens: CellTokens) -> Tensor:
        """Which gene each of the sources of :meth:`told` is, ``[n, S]``; -1 where there is none."""
        visible = tokens.visible()
        return visible.genes.masked_fill(~visible.mask, -1)

    def summaries(self, tokens: CellTokens) -> Tensor:
        """Tokens that sum up the cells, ``[n, 1, D]``."""
        values, common = self._standardise(tokens), self._in_common_unit(tokens)
        out: Tensor = self.cell_token(tokens.genes, values, tokens.mask, tokens.hidden, self.tokenizer, common)
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

    def _in_common_unit(self, tokens: CellTokens) -> Tensor:
        """Values in units of the deviation of all values of all genes from their mean."""
        mean = self.gene_mean.mean()
        variance = (self.gene_mean - mean).square().mean() + self.gene_deviation.square().mean()
        return (tokens.values - mean) / variance.sqrt()

    def _standardise(self, tokens: CellTokens) -> Tensor:
        return (tokens.values - self.gene_mean[tokens.genes]) / self.gene_deviation[tokens.genes]
