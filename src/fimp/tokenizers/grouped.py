"""Nodes with dense features: every group of features is a token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.tokenizers.base import Tokens


class GroupedTokenizer(nn.Module):
    """Cut features into groups of neighbouring columns and project each to a token.

    Equation 5 of arXiv 2210.09475 for features that are rarely zero: token k is a learned embedding of group k plus a
    linear projection of the values in it. Values should be of the order of 1.

    Parameters
    ----------
    num_features
        F.
    dim
        Model width D.
    groups
        Tokens per node; F where there are fewer features. Groups differ in size by at most one.

    Raises
    ------
    FIMPError
        If ``groups`` is below 1.

    Examples
    --------
    >>> import torch
    >>> from fimp.nn import CrossNodeAttention, FIMPConv
    >>> tokenizer = GroupedTokenizer(num_features=300, dim=8, groups=16)
    >>> h, mask = tokenizer(torch.randn(4, 300))
    >>> h.shape, bool(mask.all())
    (torch.Size([4, 16, 8]), True)
    >>> conv = FIMPConv(CrossNodeAttention(8, heads=2))
    >>> conv(h, torch.tensor([[0, 1, 2], [1, 2, 3]]), mask).shape
    torch.Size([4, 16, 8])
    """

    columns: Tensor

    def __init__(self, num_features: int, dim: int, groups: int = 16) -> None:
        super().__init__()
        if groups < 1:
            raise FIMPError(f"GroupedTokenizer: groups={groups} is below 1; use 16, for instance")
        self.num_features = num_features
        parts = np.array_split(np.arange(num_features), min(groups, num_features))
        # A group that is one shorter is filled up with a column of zeros behind the last feature.
        columns = np.full((len(parts), len(parts[0])), num_features)
        for index, part in enumerate(parts):
            columns[index, : len(part)] = part
        self.register_buffer("columns", torch.from_numpy(columns), persistent=False)
        self.weight = nn.Parameter(torch.randn(*columns.shape, dim) / columns.shape[1] ** 0.5)
        self.group = nn.Parameter(0.1 * torch.randn(len(parts), dim))

    def forward(self, x: Tensor) -> Tokens:
        """Make tokens.

        Parameters
        ----------
        x
            Features ``[N, F]``, dense, or sparse and then made dense.

        Returns
        -------
        Tokens
            ``h [N, groups, D]`` and a mask that is True everywhere.

        Raises
        ------
        FIMPError
            If ``x`` does not have F columns.
        """
        if x.dim() != 2 or x.size(1) != self.num_features:
            raise FIMPError(f"GroupedTokenizer: x has shape {list(x.shape)}, wanted [N, {self.num_features}]")
        x = (x if x.layout == torch.strided else x.to_dense()).to(self.weight.dtype)
        h = torch.einsum("ngs,gsd->ngd", F.pad(x, (0, 1))[:, self.columns], self.weight) + self.group
        return Tokens(h, torch.ones(h.shape[:2], dtype=torch.bool, device=h.device))


class DenseFeatures(NamedTuple):
    """Features of n nodes.

    Attributes
    ----------
    x
        ``[n, F]`` float32.
    """

    x: Tensor

    def take(self, n: int) -> DenseFeatures:
        """The first n nodes."""
        return DenseFeatures(self.x[:n])

    def to(self, device: torch.device) -> DenseFeatures:
        """On a device."""
        return DenseFeatures(self.x.to(device))


class GroupedEncoder(nn.Module):
    """Dense features, standardised and encoded.

    Parameters
    ----------
    kind
        ``"tokens"`` or ``"vectors"``, as in :class:`fimp.models.ModelSpec`.
    mean, deviation
        Mean and standard deviation of each feature in training nodes, ``[F]``.
    dim
        Model width D, for tokens.
    dropout
        Probability with which a feature is left out of the vector, or of the token that sums up the node.
    groups
        Tokens per node.

    Attributes
    ----------
    out_dim
        D for tokens, F for vectors.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, kind: str, mean: Tensor, deviation: Tensor, dim: int, dropout: float = 0.0, groups: int = 16
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.dropout = dropout
        self.out_dim = len(mean)
        if kind == "tokens":
            self.out_dim = dim
            self.tokenizer = GroupedTokenizer(len(mean), dim, groups)
            self.whole = nn.Linear(len(mean), dim)
            self.update = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def vectors(self, content: DenseFeatures) -> Tensor:
        """Standardised features, ``[n, F]``."""
        return F.dropout((content.x - self.mean) / self.deviation, self.dropout, self.training)

    def told(self, content: DenseFeatures, graph: Subgraph) -> tuple[Tensor, Tokens]:
        """Tokens that sum up the nodes ``[n, 1, D]``, and the groups of those within one hop ``[n_1, groups, D]``."""
        near = content.take(graph.num_nodes[1])
        shown: Tokens = self.tokenizer((near.x - self.mean) / self.deviation)
        whole = self.whole(self.vectors(content))
        return (whole + self.update(whole)).unsqueeze(1), shown

    def identities(self, content: DenseFeatures) -> Tensor:
        """Which group each of the sources of :meth:`told` is, ``[n, groups]``."""
        groups = len(self.tokenizer.group)
        return torch.arange(groups, device=content.x.device).expand(len(content.x), -1)
