"""Figure of scores with their intervals, and of differences to the best baseline."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from fimp.analysis.figures import BEST, GRID, INK, LABELS, MUTED
from fimp.analysis.style import canvas
from fimp.models.checkpoints import short_name

#: Scores closer than this are drawn on one spot: what is left between them is rounding.
_FINEST = 1e-4


def interval_figure(results: dict[str, Any]) -> Figure:
    """Draw the monitored metric of every model, and its difference to the best baseline.

    A dot per seed, an upright stroke for their mean, a line for the 95 % interval over test nodes.

    Parameters
    ----------
    results
        Content of ``results.json``.
    """
    metric, rows = results["monitor"], results["summary"]
    entries = {entry["model"]: entry for entry in results["comparisons"] if entry["metric"] == metric}
    figure = canvas(7.2, 1.1 + 0.34 * len(rows))
    axes = figure.subplots(1, 2 if entries else 1, sharey=True, squeeze=False)[0]
    for place, row in enumerate(rows):
        values = [run["metrics"][metric] for run in results["runs"] if run["model"] == row["model"]]
        _row(axes[0], place, row["metrics"][metric]["mean"], row["interval"], [v for v in values if v is not None])
        if entry := entries.get(row["model"]):
            seeds = _differences(results, row["model"], entry["baseline"])
            _row(axes[1], place, entry["mean_difference"], entry["interval"], seeds)
    axes[0].set_yticks(range(len(rows)), [short_name(row["model"]) for row in rows])
    axes[0].tick_params(axis="y", labelcolor=INK, labelsize=9)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_title(LABELS.get(metric, metric))
    if entries:
        baseline = short_name(next(iter(entries.values()))["baseline"])
        axes[1].set_title(f"difference to {baseline}, the best baseline")
        axes[1].axvline(0.0, color=MUTED, lw=1.0, zorder=1)
        for place, row in enumerate(rows):
            if short_name(row["model"]) == baseline:
                axes[1].annotate(
                    "0 by definition",
                    (0.0, place),
                    xytext=(-5, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=8,
                    color=MUTED,
                )
    for axis in axes:
        axis.grid(axis="x", color=GRID, lw=0.8, zorder=0)
        axis.spines[["left", "bottom"]].set_visible(False)
        axis.margins(x=0.08)
        low, high = axis.get_xlim()
        if high - low < _FINEST:
            axis.set_xlim(low - _FINEST, high + _FINEST)
    return figure


def _row(axis: Any, place: int, mean: float | None, bounds: list[float] | None, seeds: list[float]) -> None:
    if mean is None or mean != mean:
        return
    if bounds is not None:
        axis.plot(bounds, [place, place], color=BEST, lw=2.4, solid_capstyle="round", zorder=2)
    axis.plot([mean], [place], "|", ms=13.0, mew=2.2, color=BEST, zorder=3)
    axis.plot(seeds, [place] * len(seeds), "o", ms=4.2, mfc="white", mec=INK, mew=0.9, zorder=4)


def _differences(results: dict[str, Any], model: str, baseline: str) -> list[float]:
    """Differences of the monitored metric, seed by seed."""
    metric = results["monitor"]
    value = {(run["model"], run["seed"]): run["metrics"][metric] for run in results["runs"]}
    pairs = [(own, value.get((baseline, seed))) for (name, seed), own in value.items() if name == model]
    return [own - other for own, other in pairs if own is not None and other is not None]
