"""Two groups of cells or subjects: how their attention differs, pair by pair, and whether by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.analysis.permutation import false_discovery, paired, smallest_p, smallest_paired_p, two_groups
from fimp.analysis.sums import PairSums
from fimp.analysis.units import Units
from fimp.errors import FIMPError

#: Units with both groups from which on groups are compared within units.
_PAIRED = 6
PERMUTATIONS = 9999


@dataclass(frozen=True)
class Contrast:
    """Difference between the attention of two groups.

    Attributes
    ----------
    groups
        Names of the groups.
    first, second
        Mean attention of each group ``[R, C]``, every unit counting alike; NaN where no unit saw the pair.
    difference
        First minus second, ``[R, C]``.
    p, q
        P-values of a permutation test, and false-discovery rates among all tested pairs ``[R, C]``; NaN where too few
        units saw the pair.
    note
        What was exchanged.
    """

    groups: tuple[str, str]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    difference: NDArray[np.float64]
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    note: str


class ContrastSums:
    """Running sums of attention by group and unit; edges are of the group and the unit of who receives.

    Parameters
    ----------
    units
        The groups and units of nodes.
    rows, columns
        R and C.

    Raises
    ------
    FIMPError
        If the tables would not fit.
    """

    def __init__(self, units: Units, rows: int, columns: int) -> None:
        self.units, self.sums = units, PairSums(2 * units.count, rows, columns)
        kept = (units.unit >= 0) & (units.group >= 0)
        self._layer = torch.from_numpy(np.where(kept, 2 * units.unit + units.group, -1))

    def layer_of(self, edges: Tensor) -> Tensor:
        """Which table the edges ``[2, e]`` belong to, ``[e]``."""
        return self._layer[edges[1]]

    def contrast(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Contrast:
        """Compare the groups.

        Where at least six units have nodes of both groups, groups are compared within units, whose differences change
        their signs; else units are of the group that most of their nodes are of, and exchange their groups.

        Parameters
        ----------
        permutations, seed
            As for :func:`fimp.analysis.permutation.two_groups`.

        Raises
        ------
        FIMPError
            If there are too few units.
        """
        units = self.units
        _, rows, columns = self.sums.shape
        mean = self.sums.mean.reshape(units.count, 2, rows * columns)
        size = np.zeros((units.count, 2), dtype=np.int64)
        kept = (units.unit >= 0) & (units.group >= 0)
        np.add.at(size, (units.unit[kept], units.group[kept]), 1)
        both = (size > 0).all(1)
        if both.sum() >= _PAIRED:
            first, second = mean[both, 0], mean[both, 1]
            difference = first - second
            p = paired(difference, permutations, seed)
            note = f"groups compared within {int(both.sum())} {units.what}, whose differences changed signs"
            least = smallest_paired_p(int(both.sum()), permutations)
            # Units that say nothing of one group say nothing of the difference.
            first, second = (np.where(np.isfinite(difference), part, np.nan) for part in (first, second))
        else:
            leading, used = size.argmax(1), size.sum(1) > 0
            chosen = mean[np.arange(units.count), leading][used]
            is_first = leading[used] == 0
            if min(is_first.sum(), (~is_first).sum()) < 2:
                raise FIMPError(
                    f"--contrast: {int(is_first.sum())} and {int((~is_first).sum())} {units.what} are of "
                    f"{units.groups[0]!r} and {units.groups[1]!r}, wanted at least 2 each; name other units by --unit"
                )
            p = two_groups(chosen, is_first, permutations, seed)
            first, second = chosen[is_first], chosen[~is_first]
            note = f"{len(first)} and {len(second)} {units.what} exchanged their groups"
            least = smallest_p(len(first), len(second), permutations)
        a, b = (_mean(part).reshape(rows, columns) for part in (first, second))
        p = p.reshape(rows, columns)
        note = f"{note}; no p can be below {least:.2g}"
        return Contrast(units.groups, a, b, a - b, p, false_discovery(p), note)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over units ``[U, P]`` to ``[P]`` of those that say something."""
    seen = np.isfinite(values)
    count = seen.sum(0)
    total = np.where(seen, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
