"""Maps of the expression of a gene: measured, predicted, and what lies between."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.style import DIFFERENCE, REST, VALUES, canvas, dots, map_axis

#: Hidden values of a gene from which its score says something.
ENOUGH = 20


class HiddenValues(NamedTuple):
    """Values of genes that a model did not see and was asked for, K of them.

    Attributes
    ----------
    cell, gene
        Where, ``[K]`` int64.
    truth, predicted
        What was measured and what was predicted, ``[K]``.
    """

    cell: NDArray[np.int64]
    gene: NDArray[np.int64]
    truth: NDArray[np.floating]
    predicted: NDArray[np.floating]

    def take(self, keep: NDArray[np.bool_]) -> HiddenValues:
        """Some of them."""
        return HiddenValues(self.cell[keep], self.gene[keep], self.truth[keep], self.predicted[keep])


def scored_genes(values: HiddenValues) -> list[tuple[float, int]]:
    """R2 of every gene and the gene, best first; genes that vary and have :data:`ENOUGH` values only.

    The spread is measured around the gene's mean among the same values: a model that knows no more than the level of a
    gene scores 0 at most.
    """
    out = []
    for gene in np.unique(values.gene):
        own = values.take(values.gene == gene)
        spread = float(np.square(own.truth - own.truth.mean()).sum())
        if len(own.truth) >= ENOUGH and spread > 1e-12:
            out.append((1.0 - float(np.square(own.predicted - own.truth).sum()) / spread, int(gene)))
    return sorted(out, reverse=True)


def expression_maps(
    values: HiddenValues, xy: NDArray[np.floating], background: NDArray[np.int64], rows: list[tuple[str, int]]
) -> Figure:
    """Draw some genes in space, a row each: truth, prediction and error.

    Parameters
    ----------
    values
        What was predicted.
    xy
        Places of all cells, ``[N, 2]``.
    background
        Cells drawn in grey, for the shape of the tissue ``[any]``.
    rows
        Title and index of each gene.
    """
    shape = np.ptp(xy[background], axis=0)
    height = float(np.clip(2.0 * shape[1] / max(shape[0], 1e-9), 1.3, 3.4))
    figure = canvas(7.4, (height + 0.5) * len(rows) + 0.1)
    axes = figure.subplots(len(rows), 3, squeeze=False, sharex=True, sharey=True)
    for line, (title, gene) in zip(axes, rows, strict=True):
        own = values.take(values.gene == gene)
        both = np.concatenate([own.truth, own.predicted])
        low, high = np.quantile(both, [0.01, 0.99])
        error = own.predicted - own.truth
        most = max(float(np.quantile(np.abs(error), 0.98)), 1e-9)
        places = xy[own.cell]
        for axis in line:
            dots(axis, xy[background], size=1.2, color=REST, alpha=0.25)
            map_axis(axis)
        shown = dots(line[0], places, c=own.truth, cmap=VALUES, vmin=low, vmax=high)
        dots(line[1], places, c=own.predicted, cmap=VALUES, vmin=low, vmax=high)
        wrong = dots(line[2], places, c=error, cmap=DIFFERENCE, vmin=-most, vmax=most)
        line[0].set_title(f"{title}\nmeasured")
        line[1].set_title("predicted")
        line[2].set_title("predicted − measured")
        _bar(figure, shown, list(line[:2]))
        _bar(figure, wrong, [line[2]])
    return figure


def _bar(figure: Figure, shown: Any, axes: list[Any]) -> None:
    bar = figure.colorbar(shown, ax=axes, shrink=0.75, aspect=24, pad=0.02)
    bar.outline.set_visible(False)
