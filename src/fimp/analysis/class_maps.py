"""Maps of classes: true, predicted, and where the two differ."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.classes import Classes, legend_below
from fimp.analysis.style import REST, canvas, dots, map_axis

#: Colours of right and wrong.
_RIGHT, _WRONG = REST, "#D55E00"


def class_maps(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], xy: NDArray[np.floating], classes: Classes
) -> Figure:
    """Draw classes in space: truth, prediction, and which are wrong.

    Parameters
    ----------
    truth, predicted
        Classes of the nodes ``[n]``.
    xy
        Their places ``[n, 2]``.
    classes
        The classes.
    """
    figure = canvas(7.4, 3.3)
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    wrong = truth != predicted
    dots(axes[0], xy, c=classes.colours(truth))
    dots(axes[1], xy, c=classes.colours(predicted))
    dots(axes[2], xy[~wrong], c=_RIGHT, alpha=0.6)
    dots(axes[2], xy[wrong], c=_WRONG, marker="X")
    for axis, title in zip(axes, ("true", "predicted", f"wrong: {wrong.mean():.0%}"), strict=True):
        axis.set_title(title)
        map_axis(axis)
    legend_below(figure, [*classes.legend, ("wrong", _WRONG)])
    return figure
