"""How the shown values of a node are spread: what a sum over its tokens cannot tell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Order statistics that are told, as shares of the way from the smallest to the largest value.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class ValueSpread(nn.Module):
    """Order statistics and mean of a set of values, projected to the width of a token.

    Of a cell whose counts were scaled to a common total, the smallest value shown is all but always one count, or few:
    it says how deeply the cell was sequenced, and so what other genes' counts are worth. Sums are blind to it, which is
    why sets are better summed up by several aggregators (PNA, arXiv 2004.05718).

    Parameters
    ----------
    dim
        Model width D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(len(_SHARES) + 2, dim)

    def forward(self, values: Tensor, standard: Tensor, shown: Tensor) -> Tensor:
        """Sum up the values that are shown.

        Parameters
        ----------
        values
            Values in a unit that all features share, ``[N, T]``; their order statistics and their mean are told.
        standard
            The same values in units of each feature's own deviation from its mean, ``[N, T]``; their mean is told.
        shown
            True = the value is there, ``[N, T]``. Other values have no influence.

        Returns
        -------
        Tensor
            ``[N, D]``; zero for a node that shows nothing.
        """
        if not values.size(1):
            return values.new_zeros(len(values), self.project.out_features)
        count = shown.sum(1, keepdim=True)
        # What is not shown sorts behind everything that is.
        ordered = values.masked_fill(~shown, torch.inf).sort(1).values
        last = (count - 1).clamp(min=0)
        told = [ordered.gather(1, (last * share).long()) for share in _SHARES]
        told += [part.masked_fill(~shown, 0.0).sum(1, keepdim=True) / count.clamp(min=1) for part in (values, standard)]
        # A node that shows nothing has infinities here, which must not meet a weight.
        return self.project(torch.cat(told, 1).masked_fill(count == 0, 0.0)).masked_fill(count == 0, 0.0)
