"""Pairs of tokens by how specific attention between them is."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fimp.analysis.figures import BEST, GRID, INK, MUTED, OTHER
from fimp.analysis.token_attention import TokenAttention

#: Pairs that are drawn.
_MOST = 25


def pairs_figure(
    attention: TokenAttention, path: Path, known: Collection[tuple[str, str]] = (), known_as: str = "planted"
) -> None:
    """Draw the pairs that lead the ranked list, a dot for specific attention each.

    Parameters
    ----------
    attention
        The attention.
    path
        PNG to write.
    known
        Pairs of receiver's and sender's token to draw in colour.
    known_as
        What these are.
    """
    table = attention.ranked().dropna(subset=["rank"]).head(_MOST)
    names = [f"{receiver} ← {sender}" for receiver, sender in zip(table["receiver"], table["sender"], strict=True)]
    found = np.array([pair in known for pair in zip(table["receiver"], table["sender"], strict=True)], dtype=bool)
    figure = Figure(figsize=(5.4, 0.9 + 0.2 * max(1, len(names))), dpi=150, layout="constrained")
    axis = figure.subplots()
    # Where nothing is specific, pairs are ranked by attention.
    ranked_by = "specific" if table["specific"].abs().max() > 1e-9 else "attention"
    place, values = np.arange(len(names)), table[ranked_by].to_numpy()
    for chosen, colour, label in ((found, BEST, known_as), (~found, OTHER, "other" if known else None)):
        if chosen.any():
            axis.hlines(place[chosen], 0.0, values[chosen], color=colour, lw=1.2, zorder=2)
            axis.plot(values[chosen], place[chosen], "o", ms=4.5, color=colour, zorder=3, label=label)
    axis.set_yticks(place, names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.axvline(0.0, color=MUTED, lw=0.8)
    axis.set_xlabel("specific attention" if ranked_by == "specific" else "attention", fontsize=8, color=MUTED)
    axis.set_title("receiver ← sender", fontsize=9, color=INK, loc="left")
    axis.grid(axis="x", color=GRID, lw=0.8, zorder=0)
    axis.tick_params(length=0, labelsize=7, colors=MUTED)
    axis.tick_params(axis="y", labelcolor=INK)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)
    if known:
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path)
