"""Heat maps of attention between tokens, rows and columns in the order of a clustering."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fimp.analysis.contrast import Contrast
from fimp.analysis.figures import INK, MUTED
from fimp.analysis.token_attention import TokenAttention

#: Most rows or columns that are drawn: more labels cannot be read.
_MOST = 48
#: Inches per row or column, and around them.
_CELL = 0.17
_SEQUENTIAL, _DIVERGING, _NOTHING = "viridis", "RdBu_r", "#f2f2f2"


def attention_figure(attention: TokenAttention, path: Path) -> None:
    """Draw mean attention, and beside it what of it is specific to a pair.

    Of more than 48 rows or columns, those that the strongest specific pairs are of.

    Parameters
    ----------
    attention
        The attention.
    path
        PNG to write.
    """
    specific = np.where(attention.same, np.nan, attention.specific())
    rows, columns = _shown(specific, attention)
    panels: list[tuple[str, NDArray[np.float64], bool]] = [("attention", attention.mean, False)]
    # A table of one row or column is its own mean, and has nothing specific.
    if min(len(rows), len(columns)) > 1 and np.isfinite(specific).any():
        panels.append(("specific attention", specific, True))
    _draw(panels, attention, rows, columns, attention.what, path)


def contrast_figure(contrast: Contrast, attention: TokenAttention, path: Path) -> None:
    """Draw the attention of two groups and its difference, with a dot where the false-discovery rate is below 0.05.

    Parameters
    ----------
    contrast
        The contrast.
    attention
        What it is of.
    path
        PNG to write.
    """
    rows, columns = _shown(np.where(attention.same, np.nan, contrast.difference), attention)
    first, second = contrast.groups
    panels = [
        (first, contrast.first, False),
        (second, contrast.second, False),
        (f"{first} − {second}", contrast.difference, True),
    ]
    discoveries = int((contrast.q < 0.05).sum())
    title = f"{attention.what}; {discoveries} of {int(np.isfinite(contrast.q).sum())} pairs with q < 0.05"
    _draw(panels, attention, rows, columns, title, path, marked=contrast.q < 0.05)


def _shown(score: NDArray[np.float64], attention: TokenAttention) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns to draw, in the order of a clustering; the same where tokens are the same."""
    known = np.isfinite(attention.mean)
    if attention.rows == attention.columns:
        strength = np.fmax(_strongest(score, 1), _strongest(score, 0))
        kept = _leading(strength, np.logical_or(np.any(known, 0), np.any(known, 1)))
        both = np.concatenate([attention.mean[np.ix_(kept, kept)], attention.mean[np.ix_(kept, kept)].T], axis=1)
        kept = kept[_order(both)]
        return kept, kept
    rows, columns = _leading(_strongest(score, 1), np.any(known, 1)), _leading(_strongest(score, 0), np.any(known, 0))
    part = attention.mean[np.ix_(rows, columns)]
    return rows[_order(part)], columns[_order(part.T)]


def _strongest(score: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN")
        return np.nanmax(np.abs(score), axis=axis)


def _leading(strength: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    order = np.argsort(-np.nan_to_num(strength, nan=-1.0), kind="stable")
    return np.sort(order[known[order]][:_MOST])


def _order(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows such that similar ones are neighbours: leaves of average linkage, each row less its mean."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(values) < 3:
        return np.arange(len(values))
    seen = np.isfinite(values)
    mean = np.where(seen, values, 0.0).sum(1, keepdims=True) / np.maximum(seen.sum(1, keepdims=True), 1)
    centred = np.where(seen, values - mean, 0.0)
    return leaves_list(linkage(centred, "average", optimal_ordering=True)).astype(np.int64)


def _draw(
    panels: list[tuple[str, NDArray[np.float64], bool]],
    attention: TokenAttention,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    title: str,
    path: Path,
    marked: NDArray[np.bool_] | None = None,
) -> None:
    """Panels side by side: a title, a table, and whether its colours diverge from zero."""
    width, height = (max(1.5, _CELL * count) for count in (len(columns), len(rows)))
    label = 0.085 * max(len(attention.rows[row]) for row in rows)
    foot = 0.085 * max(len(attention.columns[column]) for column in columns)
    size = (label + len(panels) * (width + 1.1) + 0.3, height + foot + 1.1)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    plain = [values[np.ix_(rows, columns)] for _, values, diverging in panels if not diverging]
    top = max(float(np.nanmax(values)) for values in plain)
    for place, (axis, (name, values, diverging)) in enumerate(zip(axes, panels, strict=True)):
        part = values[np.ix_(rows, columns)]
        limit = float(np.nanmax(np.abs(part), initial=1e-12)) if diverging else top
        _panel(axis, part, -limit if diverging else 0.0, limit, _DIVERGING if diverging else _SEQUENTIAL)
        _bar(figure, axis, "difference" if marked is not None and diverging else name if diverging else "attention")
        axis.set_title(name, fontsize=9, color=INK, loc="left")
        axis.set_xticks(range(len(columns)), [attention.columns[column] for column in columns], rotation=90)
        axis.set_yticks(range(len(rows)), [attention.rows[row] for row in rows] if place == 0 else [])
        axis.set_xlabel("sender", fontsize=8, color=MUTED)
        if diverging and marked is not None:
            y, x = np.nonzero(marked[np.ix_(rows, columns)])
            axis.plot(x, y, "o", ms=3, mfc=INK, mec="white", mew=0.6)
    axes[0].set_ylabel("receiver", fontsize=8, color=MUTED)
    shown = (
        ""
        if len(rows) == len(attention.rows) and len(columns) == len(attention.columns)
        else (f"; {len(rows)} of {len(attention.rows)} rows, {len(columns)} of {len(attention.columns)} columns")
    )
    figure.suptitle(_wrapped(title + shown, size[0]), fontsize=9, color=INK, ha="left", x=0.01)
    figure.savefig(path)


def _panel(axis: Any, values: NDArray[np.float64], low: float, high: float, colours: str) -> None:
    axis.set_facecolor(_NOTHING)
    axis.imshow(
        np.ma.masked_invalid(values), vmin=low, vmax=high, cmap=colours, interpolation="nearest", aspect="equal"
    )
    axis.tick_params(length=0, labelsize=7, colors=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _bar(figure: Figure, axis: Any, title: str) -> None:
    bar = figure.colorbar(axis.images[0], ax=axis, shrink=0.7, pad=0.02, aspect=25)
    bar.set_label(title, fontsize=8, color=MUTED)
    bar.ax.tick_params(length=0, labelsize=7, colors=MUTED)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def _wrapped(text: str, inches: float) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, max(30, int(inches * 13))))
