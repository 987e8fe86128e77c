"""Which classes a model takes for which."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.figures import INK
from fimp.analysis.style import canvas

#: Classes that are shown, the most frequent.
_MOST = 12


def confusion_figure(truth: NDArray[np.int64], predicted: NDArray[np.int64], names: list[str]) -> Figure:
    """Draw the share of each class's nodes that is taken for each class.

    Parameters
    ----------
    truth, predicted
        Classes ``[n]``.
    names
        Names of the classes; of many, the most frequent are shown, and all others count together.
    """
    count = np.bincount(truth, minlength=len(names))
    shown = sorted(int(index) for index in np.argsort(-count, kind="stable")[:_MOST] if count[index])
    column = np.full(len(names), len(shown))
    column[shown] = np.arange(len(shown))
    labels = [names[index] for index in shown]
    width = len(shown) + int((column[predicted] == len(shown)).any())
    table = np.zeros((len(shown), len(shown) + 1))
    keep = column[truth] < len(shown)
    np.add.at(table, (column[truth[keep]], column[predicted[keep]]), 1.0)
    share = (table / table.sum(axis=1, keepdims=True))[:, :width]
    side = 1.9 + 0.42 * len(shown)
    figure = canvas(min(7.2, side + 1.0), min(6.4, side))
    axis = figure.subplots()
    image = axis.imshow(share, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
    for row, column_ in np.ndindex(*share.shape):
        if share[row, column_] >= 0.005:
            # Dark letters on light cells and the reverse, whatever the page's colours are.
            tone = "#111111" if share[row, column_] > 0.55 else "#f2f2f2"
            text = f"{share[row, column_]:.2f}"
            axis.text(column_, row, text, ha="center", va="center", fontsize=7, color=tone)
    axis.set_yticks(
        range(len(shown)), [f"{_short(name)} ({count[k]:,})" for name, k in zip(labels, shown, strict=True)]
    )
    columns = [_short(name) for name in labels] + ["others"]
    axis.set_xticks(range(width), columns[:width], rotation=40, ha="right", rotation_mode="anchor")
    axis.tick_params(labelcolor=INK)
    axis.set_ylabel("true class (nodes)")
    axis.set_xlabel("predicted class")
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, shrink=0.75, aspect=24, label="share of the true class")
    bar.outline.set_visible(False)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
