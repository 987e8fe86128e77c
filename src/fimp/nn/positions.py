"""Positional encodings."""

from __future__ import annotations

import torch
from torch import Tensor

from fimp.errors import FIMPError


def sin_cos_2d(rows: int, columns: int, dim: int) -> Tensor:
    """Sines and cosines of the places on a grid (arXiv 2111.06377, base 10000), for patches of images.

    The first half of the channels tells the column, the second half the row, each as sines, then cosines.

    Parameters
    ----------
    rows, columns
        Size of the grid.
    dim
        Channels D.

    Returns
    -------
    Tensor
        ``[rows * columns, D]``, float32, row by row.

    Raises
    ------
    FIMPError
        If D is not a multiple of 4.
    """
    if dim < 4 or dim % 4:
        raise FIMPError(f"sin_cos_2d: dim={dim}, wanted a multiple of 4")
    omega = 10_000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * omega for place in (column, row)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], 1).float()


def sin_cos_1d(length: int, dim: int) -> Tensor:
    """Sines, then cosines, of places in a sequence (arXiv 1706.03762, base 10000).

    Parameters
    ----------
    length
        Number of places.
    dim
        Channels D.

    Returns
    -------
    Tensor
        ``[length, D]``, float32.

    Raises
    ------
    FIMPError
        If D is odd.
    """
    if dim < 2 or dim % 2:
        raise FIMPError(f"sin_cos_1d: dim={dim}, wanted a multiple of 2")
    omega = 10_000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], 1).float()
