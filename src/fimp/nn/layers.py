"""Pre-norm blocks over node tokens: within a node, and between nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.nn.cross_attention import CrossNodeAttention
from fimp.nn.fimp_conv import FIMPConv


class FeedForward(nn.Sequential):
    """Two linear layers with GELU between: ``[..., D] -> [..., D]``."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))


class SelfAttentionLayer(nn.Module):
    """A transformer layer over the tokens of each node on its own.

    ``H <- H + SelfAttention(LN(H))``, then ``H <- H + FFN(LN(H))``.

    Parameters
    ----------
    dim, heads
        Model width D and number of heads.
    dropout, attention_dropout
        Of the two residual branches, and of the attention weights.
    """

    def __init__(
        self, dim: int, heads: int, *, dropout: float = 0.0, attention_dropout: float = 0.0, ratio: int = 2
    ) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ffn = FeedForward(dim, ratio * dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[N, T, D]`` and a token mask ``[N, T]`` to ``[N, T, D]``."""
        q, k, v = self.qkv(self.norm1(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if mask is None else key_bias(mask, q.dtype),
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        h = h + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return h + self.dropout(self.ffn(self.norm2(h)))


class FIMPLayer(nn.Module):
    """A message passing layer with its update (FIMP-base, design of arXiv 2210.09475 Algorithm 1).

    ``H_i <- H_i + A_i`` with ``A`` from :class:`FIMPConv` on ``LN(H)``, then
    ``H_i <- H_i + FFN(LN(H_i))``.

    Parameters
    ----------
    dim, heads
        Model width D and number of heads.
    dropout, attention_dropout
        Of the two residual branches, and of the attention weights.
    """

    def __init__(
        self, dim: int, heads: int, *, dropout: float = 0.0, attention_dropout: float = 0.0, ratio: int = 2
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.conv = FIMPConv(CrossNodeAttention(dim, heads, dropout=attention_dropout))
        self.ffn = FeedForward(dim, ratio * dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, edge_index: Tensor, mask: Tensor, num_dst: int | None = None) -> Tensor:
        """Update the first ``num_dst`` nodes (all by default): ``[N, T, D] -> [num_dst, T, D]``."""
        num_dst = h.size(0) if num_dst is None else num_dst
        normed = self.norm1(h)
        h = h[:num_dst] + self.dropout(self.conv((normed, normed[:num_dst]), edge_index, (mask, mask[:num_dst])))
        return h + self.dropout(self.ffn(self.norm2(h)))


def key_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention bias ``[N, 1, 1, T]`` from a token mask; finite, so that an empty node is no NaN."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, -1e4)[:, None, None, :]
