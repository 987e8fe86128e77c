"""Maps of classes: true, predicted, and where the two differ."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fimp.analysis.style import PALETTE, REST, canvas, dots, map_axis

#: Colours of right and wrong.
_RIGHT, _WRONG = REST, "#D55E00"


def class_colours(labels: NDArray[np.int64], names: list[str]) -> tuple[NDArray[np.str_], list[tuple[str, str]]]:
    """A colour per node, and the legend: the most frequent classes have one of their own, the others share grey.

    Parameters
    ----------
    labels
        Class of each node ``[n]``, -1 = none.
    names
        Names of the classes.
    """
    count = np.bincount(labels[labels >= 0], minlength=len(names))
    common = [int(index) for index in np.argsort(-count, kind="stable")[: len(PALETTE)] if count[index]]
    colour = np.full(len(names) + 1, REST)
    for place, index in enumerate(common):
        colour[index] = PALETTE[place]
    legend = [(names[index], PALETTE[place]) for place, index in enumerate(common)]
    if (count > 0).sum() > len(common):
        legend.append((f"{int((count > 0).sum()) - len(common)} other classes", REST))
    return colour[labels], legend


def class_maps(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], xy: NDArray[np.floating], names: list[str]
) -> Figure:
    """Draw classes in space: truth, prediction, and which are wrong.

    Parameters
    ----------
    truth, predicted
        Classes of the nodes ``[n]``.
    xy
        Their places ``[n, 2]``.
    names
        Names of the classes.
    """
    figure = canvas(7.4, 3.3)
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    # One table of colours for both, so that a class looks the same in truth and prediction.
    colours, legend = class_colours(np.concatenate([truth, predicted]), names)
    wrong = truth != predicted
    dots(axes[0], xy, c=colours[: len(truth)])
    dots(axes[1], xy, c=colours[len(truth) :])
    dots(axes[2], xy[~wrong], c=_RIGHT, alpha=0.6)
    dots(axes[2], xy[wrong], c=_WRONG, marker="X")
    for axis, title in zip(axes, ("true", "predicted", f"wrong: {wrong.mean():.0%}"), strict=True):
        axis.set_title(title)
        map_axis(axis)
    legend_below(figure, [*legend, ("wrong", _WRONG)])
    return figure


def legend_below(figure: Figure, entries: list[tuple[str, str]]) -> None:
    """A legend of names and colours below the panels; long names are shortened."""
    handles = [
        Line2D([], [], ls="", marker="o", ms=5, color=colour, label=name if len(name) <= 28 else f"{name[:27]}…")
        for name, colour in entries
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.2, columnspacing=1.2)
