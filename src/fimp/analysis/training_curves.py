"""Figure of how models were trained."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fimp.analysis.figures import GRID, LABELS
from fimp.analysis.style import PALETTE, REST, canvas
from fimp.models.checkpoints import short_name

#: Line styles with which colours are used again.
_DASHES = ("-", "--", ":")


def training_curves(curves: dict[str, list[list[dict[str, Any]]]], monitor: str) -> Figure:
    """Draw the training loss and the validated metric over the steps, a line per run, a colour per model.

    Parameters
    ----------
    curves
        Of every model, the rows of ``metrics.csv`` of each seed (:func:`fimp.train.callbacks.read_metrics`).
    monitor
        The metric by which checkpoints were chosen.
    """
    figure = canvas(7.2, 3.0)
    left, right = figure.subplots(1, 2)
    for place, (model, runs) in enumerate(curves.items()):
        colour = PALETTE[place % len(PALETTE)] if place < len(PALETTE) * len(_DASHES) else REST
        dash = _DASHES[min(place // len(PALETTE), len(_DASHES) - 1)]
        for seed, rows in enumerate(runs):
            label = short_name(model) if seed == 0 else None
            for axis, name in ((left, "train_loss"), (right, f"val_{monitor}")):
                points = _points(rows, name)
                # A single point has no line that could be seen.
                marker = "o" if len(points[0]) == 1 else ""
                axis.plot(*points, marker=marker, ms=3, color=colour, ls=dash, lw=1.4, alpha=0.85, label=label)
    left.set_title("training loss")
    right.set_title(f"validation, {LABELS.get(monitor, monitor)}")
    for axis in (left, right):
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.grid(axis="y", color=GRID, lw=0.8, zorder=0)
        axis.spines["left"].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(curves), 4))
    return figure


def _points(rows: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values, where a row has one."""
    known = [row for row in rows if row.get(name)]
    return [float(row["step"]) for row in known], [float(row[name]) for row in known]
