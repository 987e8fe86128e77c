"""Gene tokens: a cell is a set of (gene, value) pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.tokenizers.base import Tokens


class GeneTokenizer(nn.Module):
    """Combine a gene embedding with a projection of the gene's value (paper section 3.1, equation 5).

    Parameters
    ----------
    num_genes
        Size G of the gene vocabulary.
    dim
        Model width D.
    combine
        ``"concatenate"`` joins both halves and projects them to D, ``"add"`` sums them.
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
        combine: str = "concatenate",
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
            nn.init.normal_(self.gene.weight, std=dim**-0.5)
        else:
            self.gene = nn.Embedding.from_pretrained(embedding.clone(), freeze=freeze)
        width = self.gene.embedding_dim
        self.to_dim = nn.Identity() if width == dim else nn.Linear(width, dim)
        self.value = nn.Sequential(nn.Linear(1, dim), nn.GELU(), nn.Linear(dim, dim))
        self.mask_token = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.mask_token, std=dim**-0.5)
        self.project = nn.Linear(2 * dim, dim) if combine == "concatenate" else nn.Identity()

    def forward(self, genes: Tensor, values: Tensor, mask: Tensor, hidden: Tensor | None = None) -> Tokens:
        """Make tokens.

        Parameters
        ----------
        genes
            Indices into the vocabulary, ``[N, T]`` int64.
        values
            Expression values (log1p of normalised counts), ``[N, T]`` float.
        mask
            True = real token, ``[N, T]``.
        hidden
            True = the value is replaced by the learned mask token, ``[N, T]``.

        Returns
        -------
        Tokens
            ``h [N, T, D]`` and ``mask [N, T]``; padded tokens are zero.
        """
        if hidden is None:
            hidden = torch.zeros_like(mask)
        # Values of hidden and padded tokens are cut off here, whatever they are.
        shown = values.masked_fill(hidden | ~mask, 0.0).unsqueeze(-1)
        value = torch.where(hidden.unsqueeze(-1), self.mask_token, self.value(shown))
        gene = self.to_dim(self.gene(genes))
        h = torch.cat([gene, value], -1) if self.combine == "concatenate" else gene + value
        return Tokens(self.project(h).masked_fill(~mask.unsqueeze(-1), 0.0), mask)
