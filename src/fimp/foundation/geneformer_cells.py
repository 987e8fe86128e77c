"""Cells as Geneformer reads them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.data.masking import CellTokens
from fimp.foundation.cells import CellReader
from fimp.tokenizers import Tokens


class GeneformerReader(CellReader):
    """Rank-value encoding: genes stand at the rank of their value over their median.

    Ranks are those among the genes that a cell shows, so a cell that shows all of them is what upstream's tokenizer
    makes of it; scaling a cell's counts changes no rank. Genes without a token or a median are left out of what a cell
    shows, as upstream does. Besides, a projection of the standardised value that starts at zero lets a task learn what
    ranks do not say. A gene that is asked for has no rank: it gets a learned vector that starts from the mean of
    the positions; one that the model lacks starts from the mean of the other genes.

    Parameters
    ----------
    words
        Embeddings of the data's genes ``[G, D]``.
    ends
        Embeddings of ``<cls>`` and ``<eos>`` ``[2, D]``, or ``[0, D]`` where the dictionary has none.
    positions, kind
        Embeddings of positions ``[P, D]`` and of the token type ``[D]``.
    norm
        The norm after their sum, which is shared.
    dropout
        That after the norm, shared, too.
    known
        Which genes have a token and a median ``[G]``.
    medians
        Medians of the genes ``[G]``; those of genes without are not looked at.
    gene_mean, gene_deviation
        As in :class:`CellReader`.
    """

    known: Tensor
    log_median: Tensor

    def __init__(
        self,
        words: Tensor,
        ends: Tensor,
        positions: Tensor,
        kind: Tensor,
        norm: nn.LayerNorm,
        dropout: nn.Dropout,
        known: Tensor,
        medians: Tensor,
        gene_mean: Tensor,
        gene_deviation: Tensor,
    ) -> None:
        super().__init__(gene_mean, gene_deviation)
        self.word = nn.Embedding.from_pretrained(words, freeze=False)
        self.ends, self.position = nn.Parameter(ends.clone()), nn.Parameter(positions.clone())
        self.kind, self.norm, self.dropout = nn.Parameter(kind.clone()), norm, dropout
        self.asked = nn.Parameter(positions.mean(0))
        self.value = nn.Parameter(torch.zeros(words.size(1)))
        self.register_buffer("known", known)
        self.register_buffer("log_median", torch.where(known, medians, torch.ones_like(medians)).log())

    def freeze(self) -> None:
        """See :class:`CellReader`."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in ("asked", "value"))

    def sources(self, visible: CellTokens) -> Tokens:
        """See :class:`CellReader`; ``<cls>`` and ``<eos>``, where there are any, come first."""
        genes, values = visible.genes, visible.values
        ends = len(self.ends)
        mask = visible.mask & self.known[genes] & (values > 0)
        rank = self._ranks(genes, values, mask)
        place = rank + min(ends, 1)
        # The lowest ranks of a cell that is too long for the model are left out.
        mask = mask & (place < len(self.position) - max(0, ends - 1))
        states = self.word(genes) + self.position[place.clamp(max=len(self.position) - 1)]
        if ends:
            last = mask.sum(1) + 1
            outer = torch.stack([torch.zeros_like(last), last], 1)
            states = torch.cat([self.ends + self.position[outer], states], 1)
            mask = F.pad(mask, (ends, 0), value=True)
        h = self.norm(states + self.kind)
        standard = (values - self.gene_mean[genes]) / self.gene_deviation[genes]
        told = F.pad(standard, (ends, 0))[:, :, None] * self.value
        return Tokens(self.dropout(h + told), mask)

    def queries(self, asked: CellTokens) -> Tensor:
        """See :class:`CellReader`."""
        out: Tensor = self.dropout(self.norm(self.word(asked.genes) + self.asked + self.kind))
        return out

    def predict(self, h: Tensor, genes: Tensor) -> Tensor:
        """The mean of each gene: the model knows ranks, and no values."""
        return self.gene_mean[genes]

    def _ranks(self, genes: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Place of each shown gene in the order of values over medians, from 0; of equals the earlier gene first."""
        # Values are log1p of scaled counts; x + log(1 - exp(-x)) is the logarithm of these counts without an overflow.
        x = values.double().clamp(min=1e-12)
        score = x + torch.log(-torch.expm1(-x)) - self.log_median[genes].double()
        score = score.masked_fill(~mask, float("-inf"))
        by_gene = genes.argsort(dim=1, stable=True)
        order = by_gene.gather(1, score.gather(1, by_gene).argsort(dim=1, descending=True, stable=True))
        rank = torch.empty_like(order)
        return rank.scatter_(1, order, torch.arange(order.size(1), device=order.device).expand_as(order))
