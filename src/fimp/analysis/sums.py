"""Running sums of attention: what is kept of edges that pass by."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.errors import FIMPError
from fimp.tasks.attention import EdgeAttention

#: Bytes that the sums of a study may take.
_BUDGET = 2 * 2**30


class PairSums:
    """Sums and counts of attention by layer, row and column; memory does not grow with the number of edges.

    Parameters
    ----------
    layers
        Tables that are kept apart, such as one per pair of cell types, or per group and subject.
    rows, columns
        R and C.

    Raises
    ------
    FIMPError
        If the tables would not fit.
    """

    def __init__(self, layers: int, rows: int, columns: int) -> None:
        size = layers * rows * columns
        if 12 * size > _BUDGET:
            raise FIMPError(
                f"attention: {layers:,} tables of {rows:,} x {columns:,} tokens take {12 * size / 2**30:.1f} GiB, "
                f"wanted at most {_BUDGET / 2**30:.0f}; use fewer blocks, types or genes"
            )
        self.shape = layers, rows, columns
        self._total = torch.zeros(size, dtype=torch.float64)
        self._count = torch.zeros(size, dtype=torch.int32)

    def add(self, part: EdgeAttention, layer: Tensor | None = None) -> None:
        """Add the attention of some edges.

        Parameters
        ----------
        part
            Attention, with rows and columns as numbers, or -1 for those that do not count.
        layer
            Which table each edge belongs to ``[e]``, -1 for none; the first by default.
        """
        _, rows, columns = self.shape
        offset = torch.zeros(len(part.weight), dtype=torch.int64) if layer is None else layer
        used = (offset >= 0)[:, None, None] & (part.receiver >= 0)[:, :, None] & (part.sender >= 0)[:, None, :]
        place = (offset[:, None, None] * rows + part.receiver[:, :, None]) * columns + part.sender[:, None, :]
        place = place[used]
        self._total.index_add_(0, place, part.weight[used].double())
        self._count.index_add_(0, place, torch.ones_like(place, dtype=torch.int32))

    @property
    def count(self) -> NDArray[np.int64]:
        """Edges that were added, ``[layers, R, C]``."""
        return self._count.view(self.shape).numpy().astype(np.int64)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean attention ``[layers, R, C]``; NaN where nothing was added."""
        return (self._total / self._count).view(self.shape).numpy()
