"""Attention between regions, drawn where the regions are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.figures import INK, MUTED

#: Pairs of regions that are drawn.
_MOST = 60
#: Names of views, and which coordinates are drawn to the right and up.
_VIEWS = (("from above", 0, 1, "left – right", "back – front"), ("from the side", 1, 2, "back – front", "down – up"))


def region_figure(
    values: NDArray[np.float64], xyz: NDArray[np.float64], what: str, path: Path, signed: bool = False
) -> None:
    """Draw regions as dots, larger the more is heard of them, and the pairs with the largest values as lines.

    With nilearn installed, pairs are drawn in its glass brain, without direction; else from above and from the side.

    Parameters
    ----------
    values
        ``[R, R]``, receivers in rows; NaN where there is nothing.
    xyz
        Coordinates of regions in mm, ``[R, 3]``.
    what
        What a value is.
    path
        PNG to write.
    signed
        Whether values may be negative (differences), so that colours diverge from zero.
    """
    found = np.where(np.eye(len(values), dtype=bool) | ~np.isfinite(values), 0.0, values)
    both = found + found.T
    row, column = np.triu_indices(len(values), 1)
    order = np.argsort(np.abs(both[row, column]), kind="stable")[-_MOST:]
    order = order[both[row, column][order] != 0.0]
    if find_spec("nilearn") is not None:
        _with_nilearn(both, found, xyz, row[order], column[order], what, path, signed)
    else:
        _plain(both, found, xyz, row[order], column[order], what, path, signed)


def _sizes(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of the dot of each region, larger the more is heard of it."""
    heard = np.abs(found).sum(0)
    return 8.0 + 60.0 * heard / max(float(heard.max()), 1e-12)


def _with_nilearn(
    both: NDArray[np.float64],
    found: NDArray[np.float64],
    xyz: NDArray[np.float64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    what: str,
    path: Path,
    signed: bool,
) -> None:
    from nilearn import plotting

    drawn = np.zeros_like(both)
    drawn[row, column] = drawn[column, row] = both[row, column]
    limit = float(np.abs(drawn).max()) or 1.0
    figure = Figure(figsize=(9.0, 3.6), dpi=150)
    plotting.plot_connectome(
        drawn,
        xyz,
        figure=figure,
        node_size=_sizes(found),
        node_color=INK,
        edge_cmap="RdBu_r" if signed else "viridis",
        edge_vmin=-limit if signed else 0.0,
        edge_vmax=limit,
        # nilearn has no colours to show where there are no pairs.
        colorbar=bool(len(row)),
    )
    title = f"{what}; the {len(row)} strongest pairs, both directions together"
    figure.suptitle(title, fontsize=9, color=INK, ha="left", x=0.01)
    figure.savefig(path)


def _plain(
    both: NDArray[np.float64],
    found: NDArray[np.float64],
    xyz: NDArray[np.float64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    what: str,
    path: Path,
    signed: bool,
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    limit = float(np.abs(both[row, column]).max(initial=1e-12))
    scale = Normalize(-limit if signed else 0.0, limit)
    colours = colormaps["RdBu_r" if signed else "viridis"]
    figure = Figure(figsize=(8.0, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(_VIEWS))
    size = _sizes(found)
    for axis, (title, right, up, below, beside) in zip(axes, _VIEWS, strict=True):
        ends = xyz[:, [right, up]]
        lines = np.stack([ends[row], ends[column]], axis=1)
        value = both[row, column]
        width = 0.5 + 2.0 * np.abs(value) / limit
        axis.add_collection(LineCollection(list(lines), colors=colours(scale(value)), linewidths=width, zorder=1))
        axis.scatter(*ends.T, s=size, color=INK, edgecolor="white", linewidth=0.6, zorder=2)
        axis.set_aspect("equal")
        axis.set_title(title, fontsize=9, color=INK, loc="left")
        axis.set_xlabel(f"{below} (mm)", fontsize=8, color=MUTED)
        axis.set_ylabel(f"{beside} (mm)", fontsize=8, color=MUTED)
        axis.tick_params(length=0, labelsize=7, colors=MUTED)
        for spine in axis.spines.values():
            spine.set_visible(False)
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes, shrink=0.7, pad=0.02, aspect=25)
    bar.set_label("both directions together", fontsize=8, color=MUTED)
    bar.ax.tick_params(length=0, labelsize=7, colors=MUTED)
    bar.outline.set_visible(False)
    figure.suptitle(f"{what}; the {len(row)} strongest pairs", fontsize=9, color=INK, ha="left", x=0.01)
    figure.savefig(path)
