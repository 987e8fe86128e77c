"""Attention between regions, drawn where the regions are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.figures import INK, MUTED

#: Pairs of regions that are drawn.
_MOST = 60
#: Names of views, and which coordinates are drawn to the right and up.
_VIEWS = (("from above", 0, 1, "left – right", "back – front"), ("from the side", 1, 2, "back – front", "down – up"))


class _Pairs(NamedTuple):
    """What is drawn: values ``both [K]`` of pairs of regions, dots at ``xyz [R, 3]`` of an area ``size [R]``."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    both: NDArray[np.float64]
    xyz: NDArray[np.float64]
    size: NDArray[np.float64]
    what: str
    colours: str
    lowest: float

    @property
    def limit(self) -> float:
        """The largest value, or 1 where there is none."""
        return float(np.abs(self.both).max(initial=0.0)) or 1.0


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
    row, column = row[order], column[order]
    heard = np.abs(found).sum(0)
    size = 8.0 + 60.0 * heard / max(float(heard.max()), 1e-12)
    colours, lowest = ("RdBu_r", -1.0) if signed else ("viridis", 0.0)
    pairs = _Pairs(row, column, both[row, column], xyz, size, what, colours, lowest)
    (_plain if find_spec("nilearn") is None else _with_nilearn)(pairs, path)


def _with_nilearn(pairs: _Pairs, path: Path) -> None:
    from nilearn import plotting

    drawn = np.zeros((len(pairs.xyz), len(pairs.xyz)))
    drawn[pairs.row, pairs.column] = drawn[pairs.column, pairs.row] = pairs.both
    figure = Figure(figsize=(9.0, 3.6), dpi=150)
    plotting.plot_connectome(
        drawn,
        pairs.xyz,
        figure=figure,
        node_size=pairs.size,
        node_color=INK,
        edge_cmap=pairs.colours,
        edge_vmin=pairs.lowest * pairs.limit,
        edge_vmax=pairs.limit,
        # nilearn has no colours to show where there are no pairs.
        colorbar=bool(len(pairs.both)),
    )
    title = f"{pairs.what}; the {len(pairs.both)} strongest pairs, both directions together"
    figure.suptitle(title, fontsize=9, color=INK, ha="left", x=0.01)
    figure.savefig(path)


def _plain(pairs: _Pairs, path: Path) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    scale, colours = Normalize(pairs.lowest * pairs.limit, pairs.limit), colormaps[pairs.colours]
    figure = Figure(figsize=(8.0, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(_VIEWS))
    width = 0.5 + 2.0 * np.abs(pairs.both) / pairs.limit
    for axis, (title, right, up, below, beside) in zip(axes, _VIEWS, strict=True):
        ends = pairs.xyz[:, [right, up]]
        lines = np.stack([ends[pairs.row], ends[pairs.column]], axis=1)
        axis.add_collection(LineCollection(list(lines), colors=colours(scale(pairs.both)), linewidths=width, zorder=1))
        axis.scatter(*ends.T, s=pairs.size, color=INK, edgecolor="white", linewidth=0.6, zorder=2)
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
    figure.suptitle(f"{pairs.what}; the {len(pairs.both)} strongest pairs", fontsize=9, color=INK, ha="left", x=0.01)
    figure.savefig(path)
