"""The plain formulation of edge attention: every edge at once, differentiated by autograd."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attention_probabilities(query: Tensor, key: Tensor, key_mask: Tensor | None, scale: float) -> Tensor:
    """Softmax over source tokens, [E, H, T, S]; rows whose source has no real token are zero.

    Parameters
    ----------
    query, key
        Tokens gathered per edge, [E, H, T, d] and [E, H, S, d].
    key_mask
        [E, S], True = real token.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale
    if key_mask is None:
        return scores.softmax(-1) if key.size(2) else scores
    hidden = ~key_mask[:, None, None, :]
    # A finite fill keeps softmax of an all-masked row finite; the second fill makes it zero.
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).masked_fill(hidden, 0.0)


def weighted_sum(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    src: Tensor,
    dst: Tensor,
    key_mask: Tensor | None,
    weight: Tensor | None,
    scale: float,
    dropout: float,
) -> Tensor:
    """Sum of weighted messages per destination, [N_dst, H, T, d], in O(E H T S) memory."""
    probability = attention_probabilities(query[dst], key[src], None if key_mask is None else key_mask[src], scale)
    message = torch.matmul(F.dropout(probability, dropout), value[src])
    if weight is not None:
        message = message * weight[:, None, None, None]
    out = message.new_zeros(query.shape[:-1] + value.shape[-1:])
    return out.index_add(0, dst, message)
