"""What every tokenizer returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """Nodes as sequences of tokens (arXiv 2210.09475, section 3.1).

    Attributes
    ----------
    h
        Token states, ``[N, T, D]``.
    mask
        Token mask, ``[N, T]``, True = real token.
    """

    h: Tensor
    mask: Tensor
