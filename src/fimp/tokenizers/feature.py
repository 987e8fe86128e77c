"""Nodes with named features, few of them nonzero: one token per nonzero feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.data.hashing import hash_uniform
from fimp.data.masking import CellTokens
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.tokenizers.base import Tokens
from fimp.tokenizers.cell import CellEncoder
from fimp.tokenizers.gene import GeneTokenizer


class FeatureTokenizer(nn.Module):
    """Make a token of every nonzero feature of a node (arXiv 2210.09475, equation 5).

    Token k is the learned embedding of feature k combined with a projection of its value
    (:class:`fimp.tokenizers.GeneTokenizer`). Values should be of the order of 1.

    Of nodes with more nonzero features than ``tokens``, some are drawn: at random in training, and in evaluation by a
    hash of the node's own features, so that a node's tokens do not depend on the others in ``x``.

    Parameters
    ----------
    num_features
        F.
    dim
        Model width D.
    tokens
        Most tokens per node.

    Raises
    ------
    FIMPError
        If ``tokens`` is below 1.

    Examples
    --------
    Two layers of messages on a sparse ``x``:

    >>> import torch
    >>> from fimp.nn import CrossNodeAttention, FIMPConv
    >>> x = torch.tensor([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).to_sparse()
    >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 0]])
    >>> tokenizer = FeatureTokenizer(num_features=4, dim=8)
    >>> h, mask = tokenizer(x)
    >>> mask
    tensor([[ True,  True],
            [ True, False],
            [False, False]])
    >>> conv = FIMPConv(CrossNodeAttention(8, heads=2), add_self_loops=True)
    >>> for _ in range(2):
    ...     h = h + conv(h, edge_index, mask)
    >>> h.shape
    torch.Size([3, 2, 8])
    """

    def __init__(self, num_features: int, dim: int, tokens: int = 64) -> None:
        super().__init__()
        if tokens < 1:
            raise FIMPError(f"FeatureTokenizer: tokens={tokens} is below 1; use 64, for instance")
        self.num_features, self.tokens = num_features, tokens
        self.tokenizer = GeneTokenizer(num_features, dim)

    def forward(self, x: Tensor) -> Tokens:
        """Make tokens.

        Parameters
        ----------
        x
            Features ``[N, F]``, dense or sparse (COO or CSR).

        Returns
        -------
        Tokens
            ``h [N, T, D]`` and ``mask [N, T]`` with T the most tokens of a node, at least 1, ordered by feature.
            A node without a nonzero feature has no real token: it sends nothing.

        Raises
        ------
        FIMPError
            If ``x`` does not have F columns.
        """
        if x.dim() != 2 or x.size(1) != self.num_features:
            raise FIMPError(f"FeatureTokenizer: x has shape {list(x.shape)}, wanted [N, {self.num_features}]")
        row, feature, value = _nonzero(x)
        keep = self._drawn(row, feature, x.size(0))
        # Words are often kept as bool or int, and NumPy's floats are double.
        row, feature, value = row[keep], feature[keep], value[keep].to(self.tokenizer.slope.weight.dtype)
        counts, place = _places(row, x.size(0))
        width = max(1, int(counts.max())) if len(row) else 1
        mask = torch.arange(width, device=x.device) < counts[:, None]
        features = torch.zeros_like(mask, dtype=torch.int64).index_put((row, place), feature)
        values = torch.zeros_like(mask, dtype=value.dtype).index_put((row, place), value)
        out: Tokens = self.tokenizer(features, values, mask)
        return out

    def _drawn(self, row: Tensor, feature: Tensor, count: int) -> Tensor:
        """Which entries become tokens; ``row`` ascends."""
        if len(row) == 0 or int(torch.bincount(row).max()) <= self.tokens:
            return torch.ones_like(row, dtype=torch.bool)
        if self.training:
            key = torch.rand(len(row), device=row.device, dtype=torch.float64)
        else:
            own = torch.zeros(count, dtype=torch.int64, device=row.device).index_add(0, row, feature + 1)
            key = torch.from_numpy(hash_uniform(own[row].cpu().numpy(), feature.cpu().numpy())).to(row.device)
        order = key.argsort(stable=True)
        order = order[row[order].argsort(stable=True)]
        _, rank = _places(row, count)
        keep = torch.empty_like(row, dtype=torch.bool)
        keep[order] = rank < self.tokens
        return keep


class FeatureEncoder(CellEncoder):
    """Features of nodes as :class:`fimp.data.TokenSampler` draws them, standardised and encoded.

    The token that sums up a node, and the vector, are told all of its features. Of these, the first ``tokens`` drawn
    are tokens of their own. A feature is left out of the sum and of the vector with probability ``dropout``.

    Parameters
    ----------
    kind, mean, deviation, dim, dropout
        As for :class:`fimp.tokenizers.CellEncoder`.
    tokens
        Most tokens per node.
    """

    def __init__(
        self, kind: str, mean: Tensor, deviation: Tensor, dim: int, dropout: float = 0.0, tokens: int = 64
    ) -> None:
        super().__init__(kind, mean, deviation, dim, dropout)
        self.tokens, self.dropout = tokens, dropout
        if kind == "vectors":
            # Nothing is ever hidden here.
            self.out_dim = 2 * len(mean)

    def vectors(self, content: CellTokens) -> Tensor:
        """For every feature its value and whether it is there: ``[n, 2 F]``."""
        weight = F.dropout(content.mask.to(content.values.dtype), self.dropout, self.training)
        out = weight.new_zeros(len(weight), 2 * len(self.gene_mean))
        # Padding has the weight 0: wherever it is added, it adds nothing.
        out.scatter_add_(1, content.genes, weight * self._standardise(content))
        return out.scatter_add_(1, content.genes + len(self.gene_mean), weight)

    def told(self, content: CellTokens, graph: Subgraph) -> tuple[Tensor, Tokens]:
        """Tokens that sum up the nodes ``[n, 1, D]``, and drawn features of those within one hop ``[n_1, S, D]``."""
        whole = self.summaries(content)
        few = content.take(graph.num_nodes[1]).columns(self.tokens)
        return whole, self.tokenizer(few.genes, self._standardise(few), few.mask)

    def identities(self, content: CellTokens) -> Tensor:
        """Which feature each of the sources of :meth:`told` is, ``[n, S]``; -1 where there is none."""
        few = content.columns(self.tokens)
        return few.genes.masked_fill(~few.mask, -1)


def _nonzero(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values of what is not zero, in this order."""
    if x.layout == torch.strided:
        row, column = x.nonzero(as_tuple=True)
        return row, column, x[row, column]
    coo = x.to_sparse_coo().coalesce()
    (row, column), value = coo.indices(), coo.values()
    keep = value != 0
    return row[keep], column[keep], value[keep]


def _places(row: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Entries of every row, and the place of every entry within its row; ``row`` ascends."""
    counts = torch.bincount(row, minlength=count)
    return counts, torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
