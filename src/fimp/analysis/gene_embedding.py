"""Picture of what a model makes of genes (paper figure 5B)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.figures import INK
from fimp.analysis.projection import project
from fimp.analysis.style import VALUES, canvas, dots, map_axis

#: Genes that are named in each panel.
_NAMED = 6


def gene_embedding(
    embedding: NDArray[np.floating], names: list[str], expression: list[tuple[str, NDArray[np.floating]]]
) -> tuple[Figure, str]:
    """Draw the embeddings of genes in two dimensions, coloured by mean expression, a panel per cell type.

    Parameters
    ----------
    embedding
        ``[G, D]``.
    names
        Names of the genes.
    expression
        Of each panel, title and mean expression of every gene ``[G]``; the highest are named.

    Returns
    -------
    Figure, str
        The picture, and how the two dimensions were made (:func:`fimp.analysis.projection.project`).
    """
    xy, how = project(embedding)
    figure = canvas(min(7.4, 3.4 * len(expression) + 1.2), 3.6)
    axes = figure.subplots(1, len(expression), squeeze=False, sharex=True, sharey=True)[0]
    most = max(float(values.max()) for _, values in expression)
    least = min(float(values.min()) for _, values in expression)
    for axis, (title, values) in zip(axes, expression, strict=True):
        shown = dots(axis, xy, c=values, cmap=VALUES, vmin=least, vmax=most)
        for gene in np.argsort(-values, kind="stable")[:_NAMED]:
            axis.annotate(
                names[gene], xy[gene], xytext=(4, 3), textcoords="offset points", fontsize=7, color=INK, zorder=5
            )
        axis.set_title(title)
        map_axis(axis)
        axis.margins(0.12)
    bar = figure.colorbar(shown, ax=list(axes), shrink=0.75, aspect=24, label="mean expression")
    bar.outline.set_visible(False)
    return figure, how
