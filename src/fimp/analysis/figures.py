"""Figures of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fimp.models.checkpoints import short_name

#: Colours of text, of axes, of grids, of the best model and of others.
INK, MUTED, GRID, BEST, OTHER = "#222222", "#6b6b6b", "#e4e4e4", "#0b6e99", "#9aa5ad"
LABELS = {
    "mse": "MSE (lower is better)",
    "r2": "R²",
    "r2_gene": "R² within genes",
    "accuracy": "accuracy",
    "f1": "F1, weighted",
    "f1_macro": "F1, macro",
    "roc_auc": "area under ROC",
}


def comparison_figure(results: dict[str, Any], path: Path) -> None:
    """Draw every model's metrics, a dot per seed, a bar for the mean, the best in colour.

    Parameters
    ----------
    results
        Content of ``results.json``.
    path
        PNG to write.
    """
    metrics, summary = results["metrics"], results["summary"]
    shown = [name for name in metrics if any(_number(row, name) is not None for row in summary)]
    names = [row["model"] for row in summary]
    height = 1.5 + 0.42 * len(names)
    figure = Figure(figsize=(3.2 * max(1, len(shown)) + 1.6, height), dpi=150, layout="constrained")
    axes = figure.subplots(1, max(1, len(shown)), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, shown, strict=False):
        _metric_panel(axis, results, metric)
    short = [short_name(name) for name in names]
    axes[0].set_yticks(range(len(names)), [a if short.count(a) == 1 else b for a, b in zip(short, names, strict=True)])
    axes[0].invert_yaxis()
    data = results["data"]
    seeds = max(row["n_seeds"] for row in summary)
    title = f"{results['task']} on {Path(data['name']).name}: {data['n_nodes']:,} nodes, {data['n_edges']:,} edges, "
    figure.suptitle(f"{title}{seeds} seed{'s' if seeds > 1 else ''}", fontsize=10, color=INK)
    figure.savefig(path)


def _number(row: dict[str, Any], metric: str) -> float | None:
    value = row["metrics"].get(metric, {}).get("mean")
    return None if value is None or not np.isfinite(value) else float(value)


def _metric_panel(axis: Any, results: dict[str, Any], metric: str) -> None:
    means = [_number(row, metric) for row in results["summary"]]
    best = best_rows(results, metric)
    for place, (row, mean) in enumerate(zip(results["summary"], means, strict=True)):
        if mean is None:
            continue
        colour = BEST if row["model"] in best else OTHER
        axis.barh(place, mean, height=0.55, color=colour, alpha=0.9, zorder=2)
        values = [run["metrics"][metric] for run in results["runs"] if run["model"] == row["model"]]
        values = [value for value in values if value is not None]
        axis.plot(values, [place] * len(values), "o", ms=3.2, mfc="white", mec=INK, mew=0.7, zorder=3)
        anchor = max([mean, *values, 0.0])
        axis.annotate(
            f"{mean:.3f}",
            (anchor, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    shown = [mean for mean in means if mean is not None]
    shown += [value for run in results["runs"] if (value := run["metrics"][metric]) is not None]
    low, high = min([0.0, *shown]), max([0.0, *shown])
    span = max(high - low, 1e-9)
    # Room for the numbers on the right, which stand behind the rightmost dot.
    axis.set_xlim(low - (0.05 * span if low < 0.0 else 0.0), high + 0.3 * span)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_title(LABELS.get(metric, metric), fontsize=9, color=INK, loc="left")
    axis.grid(axis="x", color=GRID, lw=0.8, zorder=0)
    axis.tick_params(length=0, labelsize=8, colors=MUTED)
    axis.tick_params(axis="y", labelcolor=INK)
    for side in ("top", "right", "bottom", "left"):
        axis.spines[side].set_visible(False)
    axis.axvline(0.0, color=MUTED, lw=0.8, zorder=4)


def best_rows(results: dict[str, Any], metric: str) -> set[str]:
    """Names of the models with the best mean of a metric: one, several that tie, or none if no model has a mean."""
    sign = 1.0 if results["metrics"][metric] == "max" else -1.0
    rows = {row["model"]: sign * mean for row in results["summary"] if (mean := _number(row, metric)) is not None}
    return {model for model, mean in rows.items() if mean == max(rows.values())}


def tuning_figure(reports: list[dict[str, Any]], grid: dict[str, tuple[float | None, ...]], path: Path) -> None:
    """Draw every finished trial's score over each hyperparameter, a colour per model, the best ones ringed.

    Parameters
    ----------
    reports
        From :meth:`fimp.train.tune.Study.run`.
    grid
        Values of each hyperparameter; None is what a rule decides from the data.
    path
        PNG to write.
    """
    figure = Figure(figsize=(2.6 * len(grid) + 1.6, 3.2), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(grid), sharey=True, squeeze=False)[0]
    colours = _colours(len(reports))
    for axis, (name, values) in zip(axes, grid.items(), strict=True):
        for offset, (report, colour) in enumerate(zip(reports, colours, strict=True)):
            shift = 0.6 * ((offset + 0.5) / len(reports) - 0.5)
            done = [trial for trial in report["trials"] if trial["state"] == "complete"]
            places = [values.index(trial["params"][name]) + shift for trial in done]
            scores = [trial["score"] for trial in done]
            label = report["model"] if axis is axes[0] else None
            axis.plot(places, scores, "o", ms=3.5, color=colour, mec="white", mew=0.4, label=label)
            best = values.index(report["hyperparameters"][name]) + shift
            axis.plot([best], [report["score"]], "o", ms=7, mfc="none", mec=colour, mew=1.2)
        axis.set_xticks(range(len(values)), ["rule" if value is None else f"{value:g}" for value in values])
        axis.set_xlim(-0.5, len(values) - 0.5)
        axis.set_title(name.replace("_", " "), fontsize=9, color=INK, loc="left")
        axis.grid(axis="y", color=GRID, lw=0.8, zorder=0)
        axis.tick_params(length=0, labelsize=8, colors=MUTED)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.spines["bottom"].set_color(GRID)
    axes[0].set_ylabel("validation score", fontsize=8, color=MUTED)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path)


def training_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the training loss and every validated metric over the steps of a run.

    Parameters
    ----------
    rows
        Rows of ``metrics.csv`` (:func:`fimp.train.callbacks.read_metrics`).
    path
        PNG to write.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("epoch", "step")]
    names.sort(key=lambda name: name != "train_loss")
    figure = Figure(figsize=(2.9 * max(1, len(names)), 2.6), dpi=150, layout="constrained")
    for axis, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
        points = [(float(row["step"]), float(row[name])) for row in rows if row.get(name)]
        axis.plot(*zip(*points, strict=True), color=BEST, lw=1.4)
        metric = name.removeprefix("val_")
        title = "training loss" if name == "train_loss" else f"validation {LABELS.get(metric, metric)}"
        axis.set_title(title, fontsize=9, color=INK, loc="left")
        axis.set_xlabel("step", fontsize=8, color=MUTED)
        axis.grid(axis="y", color=GRID, lw=0.8, zorder=0)
        axis.tick_params(length=0, labelsize=8, colors=MUTED)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.spines["bottom"].set_color(GRID)
    figure.savefig(path)


def _colours(count: int) -> list[Any]:
    """Distinct colours."""
    from matplotlib import colormaps

    return [colormaps["tab10"](index % 10) for index in range(count)]
