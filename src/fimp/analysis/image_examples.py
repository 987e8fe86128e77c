"""Some images with what they are and what a model takes them for."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.figures import INK
from fimp.analysis.style import canvas

_COLUMNS = 4
_RIGHT, _WRONG = "#009E73", "#D55E00"


def image_examples(images: NDArray[np.uint8], truth: list[str], predicted: list[str]) -> Figure:
    """Draw images in a grid; above each its class, and what was predicted where that is wrong.

    Parameters
    ----------
    images
        ``[n, side, side, 3]``.
    truth, predicted
        Names of the classes, n each.
    """
    lines = -(-len(images) // _COLUMNS)
    figure = canvas(7.2, 2.1 * lines)
    axes = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, true, said in zip(axes, images, truth, predicted, strict=False):
        axis.set_axis_on()
        axis.imshow(image, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        colour = _RIGHT if true == said else _WRONG
        for spine in axis.spines.values():
            spine.set(visible=True, edgecolor=colour, linewidth=2.0)
        verdict = f"✓ {_short(true)}" if true == said else f"✗ {_short(said)}\nis {_short(true)}"
        axis.set_title(verdict, fontsize=8, color=INK)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
