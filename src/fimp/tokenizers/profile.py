"""Cells as one vector, for models that are not made of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GeneProfile(nn.Module):
    """The same tokens as a vector: for every gene its value, whether it is seen, and whether it is asked for.

    A model of vectors is thereby told exactly what a model of tokens is told: a zero that stands for
    "hidden" can be told from one that stands for "not expressed".

    Parameters
    ----------
    num_genes
        Size G of the gene vocabulary.
    """

    def __init__(self, num_genes: int) -> None:
        super().__init__()
        self.num_genes = num_genes
        self.out_dim = 3 * num_genes

    def forward(self, genes: Tensor, values: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        """``genes``, ``values``, ``mask`` and ``hidden`` ``[N, T]`` (see :class:`GeneTokenizer`) to ``[N, 3 G]``."""
        seen = mask & ~hidden
        out = values.new_zeros(genes.size(0), 3, self.num_genes)
        row = torch.arange(genes.size(0), device=genes.device)[:, None].expand_as(genes)
        out[row[seen], 0, genes[seen]] = values[seen]
        out[row[seen], 1, genes[seen]] = 1.0
        out[row[mask & hidden], 2, genes[mask & hidden]] = 1.0
        return out.flatten(1)
