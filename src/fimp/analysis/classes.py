"""Classes of nodes and their colours, the same in all figures of a report."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fimp.analysis.style import PALETTE, REST


class Classes(NamedTuple):
    """Classes, of which the most frequent have a colour of their own and the others share grey.

    Attributes
    ----------
    names
        C of them.
    common
        Those with a colour.
    present
        How many classes have any node.
    """

    names: list[str]
    common: list[int]
    present: int

    @classmethod
    def of(cls, labels: NDArray[np.int64], names: list[str]) -> Classes:
        """Classes of nodes ``[N]``, -1 = none."""
        count = np.bincount(labels[labels >= 0], minlength=len(names))
        common = [int(index) for index in np.argsort(-count, kind="stable")[: len(PALETTE)] if count[index]]
        return cls(names, common, int((count > 0).sum()))

    def colours(self, labels: NDArray[np.int64]) -> NDArray[np.str_]:
        """A colour for each of some labels ``[n]``, -1 = none."""
        table = np.full(len(self.names) + 1, REST)
        table[self.common] = PALETTE[: len(self.common)]
        return table[labels]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Names and colours."""
        named = [(self.names[index], colour) for index, colour in zip(self.common, PALETTE, strict=False)]
        others = self.present - len(self.common)
        return [*named, (f"{others} other classes", REST)] if others else named


def legend_below(figure: Figure, entries: list[tuple[str, str]]) -> None:
    """A legend of names and colours below the panels; long names are shortened."""
    handles = [
        Line2D([], [], ls="", marker="o", ms=5, color=colour, label=name if len(name) <= 28 else f"{name[:27]}…")
        for name, colour in entries
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.2, columnspacing=1.2)
