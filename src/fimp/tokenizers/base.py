"""What every tokenizer returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """Nodes as sequences of tokens.

    Attributes
    ----------
    h
        Token states, ``[N, T, D]``.
    mask
        Token mask, ``[N, T]``, True = real token.
    name
        What each token is, apart from its value, ``[N, T, D]``: the embedding of a gene, for instance. None where
        tokens have no names.
    """

    h: Tensor
    mask: Tensor
    name: Tensor | None = None
