"""Picture of a graph: where its nodes are, and who sends to whom."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fimp.analysis.classes import Classes, legend_below
from fimp.analysis.figures import INK, MUTED
from fimp.analysis.layout import Layout, take
from fimp.analysis.style import MOST_VECTORS, canvas, dots, map_axis

#: Nodes drawn with their edges, and nodes drawn at all.
CLOSE, MOST = 150, 8000
_EDGE, _NODE = MUTED, "#0072B2"


def graph_picture(
    layout: Layout, labels: NDArray[np.int64] | None = None, classes: Classes | None = None
) -> tuple[Figure, str]:
    """Draw a graph; of a large one all nodes without edges, and beside it a part with edges.

    Parameters
    ----------
    layout
        Where nodes lie.
    labels, classes
        Class of every node of the layout ``[n]``, -1 = none, and the classes; they give the colours.

    Returns
    -------
    Figure, str
        The picture, and what it shows of the graph.
    """
    colours: NDArray[np.str_] = np.full(len(layout.nodes), _NODE)
    legend: list[tuple[str, str]] = []
    if labels is not None and classes is not None:
        colours, legend = classes.colours(labels), classes.legend
    if len(layout.nodes) <= 2 * CLOSE:
        figure = canvas(4.6, 4.2)
        _with_edges(figure.subplots(), layout, colours)
        legend_below(figure, legend)
        return figure, f"{layout.counted} and {layout.edges.shape[1]:,} edges between them: {layout.about}."
    figure = canvas(7.4, 3.8)
    left, right = figure.subplots(1, 2)
    drawn = np.arange(len(layout.nodes))
    if len(drawn) > MOST:
        drawn = np.sort(np.random.default_rng(0).choice(len(drawn), MOST, replace=False))
    dots(left, layout.xy[drawn], c=colours[drawn])
    near = _crop(layout.xy)
    part = take(layout, near)
    _with_edges(right, part, colours[near])
    low, high = part.xy.min(0), part.xy.max(0)
    left.add_patch(Rectangle(tuple(low), *(high - low), fill=False, ec=INK, lw=1.2, zorder=5))
    map_axis(left)
    left.set_title(f"{len(drawn):,} of {len(layout.nodes):,} nodes" if len(drawn) < len(layout.nodes) else "all nodes")
    right.set_title("the frame, with edges")
    legend_below(figure, legend)
    few = f" (a random {len(drawn):,} are drawn)" if len(drawn) < len(layout.nodes) else ""
    said = f"{layout.counted}{few}: {layout.about}. In the frame: {len(part.nodes)} neighbouring nodes and "
    return figure, f"{said}the {part.edges.shape[1]:,} edges between them."


def _crop(xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The nodes nearest to the one in the middle."""
    middle = xy[np.square(xy - np.median(xy, axis=0)).sum(1).argmin()]
    distance = np.abs(xy - middle).max(axis=1)
    keep = np.zeros(len(xy), dtype=bool)
    keep[np.argsort(distance, kind="stable")[:CLOSE]] = True
    return keep


def _with_edges(axis: Any, layout: Layout, colours: NDArray[np.str_]) -> None:
    # A line for both directions; loops have no length.
    pairs = np.unique(np.sort(layout.edges, axis=0), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    if pairs.shape[1] > 2 * MOST_VECTORS:
        axis.set_rasterization_zorder(1.0)
    axis.add_collection(LineCollection(list(layout.xy[pairs.T]), colors=_EDGE, lw=0.8, alpha=0.5, zorder=0.4))
    axis.autoscale_view()
    dots(axis, layout.xy, c=colours)
    map_axis(axis)
