"""Gene tokens: a cell is a set of (gene, value) pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.errors import FIMPError
from fimp.tokenizers.base import Tokens

#: Hidden units that a value, a single number, passes through: as many kinks as its curve can have.
_KINKS = 32


class GeneTokenizer(nn.Module):
    """Combine a gene embedding with a projection of the gene's value (paper section 3.1, equation 5).

    The value of gene g is projected as ``MLP(value) + value * slope_g``.

    Parameters
    ----------
    num_genes
        Size G of the gene vocabulary.
    dim
        Model width D.
    combine
        ``"add"`` sums both parts, ``"concatenate"`` joins them and projects them to D.
    embedding
        Given gene embeddings ``[G, D_g]``, for instance from a foundation model; they are projected to D
        where their width differs, and trained on unless ``freeze``. By default a table is learned.
    freeze
        Keep a given table as it is.

    Raises
    ------
    FIMPError
        If ``combine`` is unknown or the given table does not have G rows.
    """

    def __init__(
        self,
        num_genes: int,
        dim: int,
        combine: str = "add",
        embedding: Tensor | None = None,
        freeze: bool = False,
    ) -> None:
        super().__init__()
        if combine not in ("concatenate", "add"):
            raise FIMPError(f"GeneTokenizer: combine={combine!r} is unknown; use 'concatenate' or 'add'")
        if embedding is not None and (embedding.dim() != 2 or embedding.size(0) != num_genes):
            raise FIMPError(f"GeneTokenizer: embedding has shape {list(embedding.shape)}, wanted [{num_genes}, width]")
        self.combine = combine
        if embedding is None:
            self.gene = nn.Embedding(num_genes, dim)
            nn.init.normal_(self.gene.weight, std=0.1)
        else:
            self.gene = nn.Embedding.from_pretrained(embedding.clone(), freeze=freeze)
        width = self.gene.embedding_dim
        self.to_dim = nn.Identity() if width == dim else nn.Linear(width, dim)
        self.value = nn.Sequential(nn.Linear(1, _KINKS), nn.GELU(), nn.Linear(_KINKS, dim))
        self.slope = nn.Embedding(num_genes, dim)
        nn.init.normal_(self.slope.weight, std=0.1)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.project = nn.Linear(2 * dim, dim) if combine == "concatenate" else nn.Identity()

    def forward(self, genes: Tensor, values: Tensor, mask: Tensor, hidden: Tensor | None = None) -> Tokens:
        """Make tokens.

        Parameters
        ----------
        genes
            Indices into the vocabulary, ``[N, T]`` int64.
        values
            Expression values, ``[N, T]`` float.
        mask
            True = real token, ``[N, T]``.
        hidden
            True = the value is replaced by the learned mask token, ``[N, T]``; none by default.

        Returns
        -------
        Tokens
            ``h [N, T, D]`` and ``mask [N, T]``; padded tokens are zero.
        """
        gene = self.names(genes)
        if hidden is not None and bool(hidden[mask].all()):
            value = self.mask_token.expand_as(gene)
        else:
            covered = ~mask if hidden is None else hidden | ~mask
            # Values of hidden and padded tokens are cut off here, whatever they are.
            shown = values.masked_fill(covered, 0.0).unsqueeze(-1)
            value = self.value(shown) + shown * self.slope(genes)
            if hidden is not None:
                value = torch.where(hidden.unsqueeze(-1), self.mask_token, value)
        h = torch.cat([gene, value], -1) if self.combine == "concatenate" else gene + value
        return Tokens(self.project(h).masked_fill(~mask.unsqueeze(-1), 0.0), mask)

    def names(self, genes: Tensor) -> Tensor:
        """What tokens are, apart from their values: gene embeddings of width D, ``[N, T] -> [N, T, D]``."""
        out: Tensor = self.to_dim(self.gene(genes))
        return out


class CellToken(nn.Module):
    """One token for the whole cell: what its visible values and its hidden genes add up to, and how deep it was read.

    It stands first among the tokens of a cell, like the ``<cls>`` token of transformers.

    Parameters
    ----------
    num_genes
        Size G of the gene vocabulary.
    dim
        Model width D.
    dropout
        Probability with which a gene is left out of the sum in training.
    depth
        Whether cells come with a depth (:attr:`fimp.data.CellTokens.depth`).
    """

    def __init__(self, num_genes: int, dim: int, dropout: float = 0.0, depth: bool = False) -> None:
        super().__init__()
        self.dropout = dropout
        tables = {name: nn.Embedding(num_genes, dim) for name in ("value", "seen", "hidden")}
        for table in tables.values():
            nn.init.normal_(table.weight, std=0.1)
        self.tables = nn.ModuleDict(tables)
        self.start = nn.Parameter(0.1 * torch.randn(dim))
        self.depth = nn.Linear(1, dim) if depth else None
        self.update = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(
        self,
        genes: Tensor,
        values: Tensor,
        mask: Tensor,
        hidden: Tensor,
        tokenizer: GeneTokenizer,
        depth: Tensor | None = None,
    ) -> Tensor:
        """Make the token.

        Parameters
        ----------
        genes, values, mask, hidden
            All tokens of a cell, ``[N, T]``, as for :class:`GeneTokenizer`.
        tokenizer
            What makes the gene tokens.
        depth
            Depths of the cells, of the order of 1, ``[N, 1]``, where cells come with one.

        Returns
        -------
        Tensor
            ``[N, 1, D]``.
        """
        weight = F.dropout(mask.to(values.dtype), self.dropout, self.training)
        seen, unseen = weight.masked_fill(hidden, 0.0), weight.masked_fill(~hidden, 0.0)
        shown = values.masked_fill(hidden | ~mask, 0.0)
        # The tables learn slowly on their own; those of the gene tokens, which every layer trains, give them a start.
        gene, slope = 0.2 * tokenizer.to_dim(tokenizer.gene.weight), 0.2 * tokenizer.slope.weight
        total = self.start + (
            self._sum("value", slope, genes, shown * seen)
            + self._sum("seen", gene, genes, seen)
            + self._sum("hidden", gene, genes, unseen)
        )
        if self.depth is not None:
            total = total + self.depth(depth)
        return (total + self.update(total)).unsqueeze(1)

    def _sum(self, name: str, start: Tensor, genes: Tensor, weight: Tensor) -> Tensor:
        table = self.tables[name]
        assert isinstance(table, nn.Embedding)
        return F.embedding_bag(genes, table.weight + start, per_sample_weights=weight, mode="sum")
