"""Picture of what a model makes of its nodes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.classes import Classes, legend_below
from fimp.analysis.projection import project
from fimp.analysis.style import VALUES, canvas, dots, map_axis


def node_embedding(
    embedding: NDArray[np.floating],
    *,
    classes: tuple[NDArray[np.int64], Classes] | None = None,
    values: tuple[NDArray[np.floating], str] | None = None,
) -> tuple[Figure, str]:
    """Draw the embedding of nodes in two dimensions.

    Parameters
    ----------
    embedding
        ``[n, D]``.
    classes
        Class of each node, -1 = none, and the classes: what colours show.
    values
        Where there are no classes, a number of each node ``[n]`` and what it is.

    Returns
    -------
    Figure, str
        The picture, and how the two dimensions were made (:func:`fimp.analysis.projection.project`).
    """
    xy, how = project(embedding)
    figure = canvas(5.4, 4.4)
    axis = figure.subplots()
    if classes is not None:
        labels, known = classes
        dots(axis, xy, c=known.colours(labels))
        legend_below(figure, known.legend)
    elif values is not None:
        low, high = np.quantile(values[0], [0.01, 0.99])
        shown = dots(axis, xy, c=values[0], cmap=VALUES, vmin=low, vmax=high)
        bar = figure.colorbar(shown, ax=axis, shrink=0.75, aspect=24, label=values[1])
        bar.outline.set_visible(False)
    else:
        dots(axis, xy, c="#0072B2")
    axis.set_title(how)
    map_axis(axis)
    return figure, how
