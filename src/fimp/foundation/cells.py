"""Cells as a foundation model reads them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fimp.data.masking import CellTokens
from fimp.tokenizers import GeneTokenizer, Tokens


class CellReader(nn.Module):
    """Gene tokens of the width that a stack has, learned with the task: how any stack can serve cells.

    This is the paper's out-of-domain setting (a ViT that makes messages between genes), and what models without an
    embedding of expression values get. Converters of models of cells give a reader of their own
    (:meth:`fimp.foundation.FoundationModel.reader`).

    Parameters
    ----------
    dim
        Width D of the stack.
    gene_mean, gene_deviation
        Mean and standard deviation of each gene's values in training cells, ``[G]``.
    embedding
        Gene embeddings to start from, ``[G, D_g]``, where the model knows genes.
    """

    gene_mean: Tensor
    gene_deviation: Tensor

    def __init__(
        self, dim: int, gene_mean: Tensor, gene_deviation: Tensor, embedding: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("gene_mean", gene_mean)
        self.register_buffer("gene_deviation", gene_deviation)
        self.tokenizer = GeneTokenizer(len(gene_mean), dim, embedding=embedding)

    def sources(self, visible: CellTokens) -> Tokens:
        """Tokens of the genes whose values are shown: ``h [n, S, D]``, ``mask [n, S]``."""
        out: Tokens = self.tokenizer(visible.genes, self._standardised(visible), visible.mask)
        return out

    def queries(self, asked: CellTokens) -> Tensor:
        """Tokens of the genes that are asked for, ``[n, T, D]``; no value is looked at."""
        tokens: Tokens = self.tokenizer(asked.genes, asked.values, asked.mask, torch.ones_like(asked.mask))
        return tokens.h

    def predict(self, h: Tensor, genes: Tensor) -> Tensor:
        """What the model itself makes of its last states ``[n, T, D]``, as values of the data ``[n, T]``.

        Here, where it knows nothing of values, the mean of each gene.
        """
        return self.gene_mean[genes]

    def _standardised(self, tokens: CellTokens) -> Tensor:
        return (tokens.values - self.gene_mean[tokens.genes]) / self.gene_deviation[tokens.genes]
