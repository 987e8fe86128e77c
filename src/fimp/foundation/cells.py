"""Cells as a foundation model reads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fimp.data.masking import CellTokens
from fimp.tokenizers import GeneTokenizer, Tokens


class CellReader(nn.Module, ABC):
    """What tasks on cells ask of a foundation model: token states before its layers, and values after them.

    Parameters
    ----------
    gene_mean, gene_deviation
        Mean and standard deviation of each gene's values in training cells, ``[G]``.

    Attributes
    ----------
    notes
        How the data's genes were found in the model.
    """

    gene_mean: Tensor
    gene_deviation: Tensor
    notes: Sequence[str]

    def __init__(self, gene_mean: Tensor, gene_deviation: Tensor) -> None:
        super().__init__()
        self.notes = ()
        self.register_buffer("gene_mean", gene_mean)
        self.register_buffer("gene_deviation", gene_deviation)

    def start_at_mean(self) -> None:
        """Let a head that knows nothing yet answer the mean of each gene, where every other model starts, too."""

    def freeze(self) -> None:
        """Keep what comes from the model as it is in training; what is learned with the task stays free."""

    def told(self, content: CellTokens) -> Tokens:
        """All that a node shows, as tokens."""
        return self.sources(content.visible())

    @abstractmethod
    def sources(self, visible: CellTokens) -> Tokens:
        """What a cell shows: tokens of genes with their values, ``h [n, S, D]``, ``mask [n, S]``."""

    @abstractmethod
    def queries(self, asked: CellTokens) -> Tensor:
        """Tokens of the genes that are asked for, ``[n, T, D]``; their values are not looked at."""

    @abstractmethod
    def predict(self, h: Tensor, genes: Tensor) -> Tensor:
        """Values ``[n, T]`` of the data that the model itself reads from last states ``[n, T, D]`` of genes."""


class TokenReader(CellReader):
    """Gene tokens of the width that a stack has, learned with the task: how any stack can serve cells.

    This is the paper's out-of-domain setting (a ViT that makes messages between genes), and what models without an
    embedding of expression values get.

    Parameters
    ----------
    dim
        Width D of the stack.
    gene_mean, gene_deviation
        As in :class:`CellReader`.
    embedding
        Embeddings that the model has of the genes, ``[G, D]``; learned anew by default.
    """

    def __init__(self, dim: int, gene_mean: Tensor, gene_deviation: Tensor, embedding: Tensor | None = None) -> None:
        super().__init__(gene_mean, gene_deviation)
        self.tokenizer = GeneTokenizer(len(gene_mean), dim, embedding=embedding)
        self.knows_genes = embedding is not None

    def freeze(self) -> None:
        """See :class:`CellReader`; the embeddings of genes, where the model has some."""
        if self.knows_genes:
            self.tokenizer.gene.requires_grad_(False)

    def sources(self, visible: CellTokens) -> Tokens:
        """See :class:`CellReader`; values are standardised per gene."""
        values = (visible.values - self.gene_mean[visible.genes]) / self.gene_deviation[visible.genes]
        out: Tokens = self.tokenizer(visible.genes, values, visible.mask)
        return out

    def queries(self, asked: CellTokens) -> Tensor:
        """See :class:`CellReader`; all get the tokenizer's mask token for a value."""
        tokens: Tokens = self.tokenizer(asked.genes, asked.values, asked.mask, torch.ones_like(asked.mask))
        return tokens.h

    def predict(self, h: Tensor, genes: Tensor) -> Tensor:
        """The mean of each gene: the model knows nothing of values before it is trained on some."""
        return self.gene_mean[genes]
