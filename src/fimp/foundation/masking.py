"""Masking of masked autoencoders (arXiv 2111.06377): tokens are removed before the encoder sees them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fimp.errors import FIMPError


class Masked(NamedTuple):
    """What masking leaves of a sequence.

    Attributes
    ----------
    h
        ``[B, 1 + kept, D]``: CLS, then the kept tokens in ascending order of their noise, as upstream hands them on.
    ids_keep
        Positions where the kept tokens stood, ``[B, kept]``.
    ids_restore
        Place of every token in the order of noise, ``[B, N]``.
    mask
        True where a token was removed, ``[B, N]``.
    """

    h: Tensor
    ids_keep: Tensor
    ids_restore: Tensor
    mask: Tensor


def mask_tokens(h: Tensor, mask_ratio: float, noise: Tensor | None = None) -> Masked:
    """Remove tokens at random, the CLS token never.

    The ``int(N * (1 - mask_ratio))`` tokens with the least noise stay, in ascending order of noise; so even at
    ratio 0 they come out shuffled, as upstream.

    Parameters
    ----------
    h
        Tokens, CLS first, ``[B, 1 + N, D]``.
    mask_ratio
        From 0 to 1, 1 excluded.
    noise
        ``[B, N]``; drawn from torch's generator by default.

    Raises
    ------
    FIMPError
        If the ratio is outside its range or leaves no token, or the shape of the noise does not fit.
    """
    count = h.size(1) - 1
    kept = int(count * (1 - mask_ratio)) if 0 <= mask_ratio < 1 else 0
    if kept < 1:
        raise FIMPError(f"mask_ratio={mask_ratio}: leaves none of {count} tokens; wanted at least 0 and well below 1")
    if noise is None:
        noise = torch.rand(len(h), count, device=h.device)
    if noise.shape != (len(h), count):
        raise FIMPError(f"noise: shape {list(noise.shape)}, wanted {[len(h), count]}, a number per token")
    order = noise.argsort(1)
    ids_restore, ids_keep = order.argsort(1), order[:, :kept]
    tokens = h[:, 1:].gather(1, ids_keep[:, :, None].expand(-1, -1, h.size(2)))
    return Masked(torch.cat([h[:, :1], tokens], 1), ids_keep, ids_restore, ids_restore >= kept)


def restore_tokens(kept: Tensor, mask_token: Tensor, ids_restore: Tensor) -> Tensor:
    """Put tokens back in their places, and a learned token where one was removed.

    Parameters
    ----------
    kept
        ``[B, kept, D]``, in the order of :class:`Masked`.
    mask_token
        ``[1, 1, D]``.
    ids_restore
        ``[B, N]``, of :class:`Masked`.

    Returns
    -------
    Tensor
        ``[B, N, D]``.
    """
    removed = mask_token.expand(len(kept), ids_restore.size(1) - kept.size(1), -1)
    return torch.cat([kept, removed], 1).gather(1, ids_restore[:, :, None].expand(-1, -1, kept.size(2)))
