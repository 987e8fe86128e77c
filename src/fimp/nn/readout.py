"""From the tokens of a node to one vector."""

from __future__ import annotations

from torch import Tensor


def mean_tokens(h: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of each node, ``[N, D]``; zero for a node without any.

    The readout of arXiv 2210.09475, section 2.1, whose form the paper leaves open.

    Parameters
    ----------
    h, mask
        Tokens ``[N, T, D]`` and their mask ``[N, T]``, True = real token.
    """
    count = mask.sum(1, keepdim=True).clamp(min=1)
    return h.masked_fill(~mask[:, :, None], 0.0).sum(1) / count
