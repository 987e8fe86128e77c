"""Hidden stretches of signals, filled in for models that cannot do without a number."""

from __future__ import annotations

import torch
from torch import Tensor

from fimp.errors import FIMPError


def fill_in(values: Tensor, hidden: Tensor, noise: Tensor, how: str) -> Tensor:
    """Signals with something where they are hidden (arXiv 2210.09475, B.3).

    Parameters
    ----------
    values
        Patches ``[n, P, L]``; what stands where they are hidden is not looked at.
    hidden
        ``[n, P]``; every node shows something.
    noise
        What ``noise`` fills in, ``[n, P, L]``.
    how
        One of :data:`fimp.models.registry.FILLS`.

    Returns
    -------
    Tensor
        ``[n, P, L]``.

    Raises
    ------
    FIMPError
        If there is no such way.
    """
    if how == "noise":
        found = noise
    elif how == "mean":
        found = visible_mean(values, hidden).expand_as(values)
    elif how == "interpolate":
        found = interpolated(values, hidden)
    else:
        raise FIMPError(f"fill_in: how={how!r} is unknown; use noise, mean or interpolate")
    return torch.where(hidden[:, :, None], found, values)


def visible_mean(values: Tensor, hidden: Tensor) -> Tensor:
    """Mean of what nodes show, ``[n, P, L]`` and ``[n, P]`` to ``[n, 1, 1]``; zero where that is nothing."""
    shown = ~hidden[:, :, None]
    count = shown.sum((1, 2), keepdim=True).clamp(min=1) * values.size(2)
    return torch.where(shown, values, 0.0).sum((1, 2), keepdim=True) / count


def interpolated(values: Tensor, hidden: Tensor) -> Tensor:
    """A straight line between the visible values around each hidden one, and the nearest of them at the ends.

    ``[n, P, L]`` and ``[n, P]`` to ``[n, P, L]``; zero where nothing is visible.
    """
    nodes, patches, length = values.shape
    shown = (~hidden)[:, :, None].expand_as(values).flatten(1)
    signal = torch.where(shown, values.flatten(1), 0.0)
    place = torch.arange(patches * length, device=values.device).expand(nodes, -1)
    none = patches * length
    before = torch.where(shown, place, -1).cummax(1).values
    after = torch.where(shown, place, none).flip(1).cummin(1).values.flip(1)
    # At the ends there is one side alone.
    left = torch.where(before < 0, after, before).clamp(max=none - 1)
    right = torch.where(after == none, before, after).clamp(min=0)
    share = (place - left) / (right - left).clamp(min=1)
    start, end = signal.gather(1, left), signal.gather(1, right)
    return (start + share * (end - start)).unflatten(1, (patches, length))
