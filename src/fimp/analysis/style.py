"""How figures of a report look: colours that can be told apart, and SVG that follows light and dark pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fimp.analysis.figures import BEST, GRID, INK, MUTED
from fimp.analysis.reconstruction import HIDDEN

#: Colours of classes and models that readers with any colour vision tell apart (Okabe and Ito 2008), and of the rest.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
REST = "#9aa5ad"
#: Dots beyond this number are drawn as an image within the figure, which keeps files small.
MOST_VECTORS = 400
#: Below and above what is true; equal is grey, which shows on white and on black.
DIFFERENCE = LinearSegmentedColormap.from_list("difference", ["#0072B2", "#b4b8bb", "#D55E00"])
#: Values, from low to high: viridis without its ends, which vanish on black and on white.
VALUES = LinearSegmentedColormap.from_list("values", colormaps["viridis"](np.linspace(0.2, 0.95, 256)))
#: Bytes of an image below which there is nothing to save, as of colour bars.
_SMALL = 4000
#: Inches from which a figure is as wide as the page, and the bounds within which figures grow and shrink.
WIDE, _MOST_REM, _LEAST_REM = 6.0, 8.2, 4.6

_PAGE = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", BEST: "var(--best)", "#ffffff": "var(--card)"}
_PAGE[HIDDEN] = "var(--shade)"
_RULES = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    # Names of genes and files are text, also where they hold a dollar sign.
    "text.parse_math": False,
    "savefig.transparent": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "fimp",
}


@contextmanager
def styled() -> Iterator[None]:
    """Figures drawn within look like those of a report."""
    with rc_context(_RULES):
        yield


def canvas(width: float, height: float) -> Figure:
    """A figure in inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def map_axis(axis: Any) -> None:
    """Take frame and ticks off a panel that shows places, where both directions are equally long."""
    # matplotlib widens the limits of a panel only where it shares them with none.
    shared = len(axis.get_shared_x_axes().get_siblings(axis)) > 1
    axis.set_aspect("equal", adjustable="box" if shared else "datalim")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def dots(axis: Any, xy: NDArray[np.floating], size: float | None = None, **how: Any) -> Any:
    """Scatter ``xy [n, 2]``, many dots as an image, smaller the more there are."""
    size = float(np.clip(9000.0 / max(len(xy), 1), 1.2, 26.0)) if size is None else size
    many = len(xy) > MOST_VECTORS
    if many:
        # All that lies below becomes one image.
        axis.set_rasterization_zorder(1.0)
    return axis.scatter(xy[:, 0], xy[:, 1], s=size, lw=0, zorder=0.5 if many else 2.0, **how)


def to_svg(figure: Figure, mark: str, alt: str) -> str:
    """A figure as SVG to put into an HTML page, which gives it its colours of text, axes and grids.

    Parameters
    ----------
    figure
        Drawn within :func:`styled`.
    mark
        Put before the ids, so that those of several figures on a page differ.
    alt
        What it shows, for those who do not see it.
    """
    from markupsafe import escape

    stream = StringIO()
    figure.savefig(stream, format="svg", dpi=144)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Comments repeat names, metadata and name spaces hold addresses, styles would be those of the page.
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    # What is pointed to keeps its id; others only repeat themselves.
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    names = {name for pair in used for name in pair if name}
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{mark}-{m[1]}"' if m[1] in names else "", text)
    text = re.sub(r'href="#', f'href="#{mark}-', text)
    text = re.sub(r"url\(#", f"url(#{mark}-", text)
    text = re.sub(r'(data:image/png;base64,)([^"]*)', lambda m: m[1] + _smaller(m[2]), text)
    for colour, name in _PAGE.items():
        text = re.sub(colour, name, text, flags=re.IGNORECASE)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    # As wide as the page where it is a wide figure, and smaller ones with letters of the same size.
    inches = figure.get_figwidth()
    width = f"max-width: {_MOST_REM * inches:.1f}rem"
    if inches > WIDE:
        # On a phone it is scrolled, not shrunk until nobody can read it.
        width += f"; min-width: {_LEAST_REM * inches:.1f}rem"
    head = f'<svg {box[0]} style="{width}" role="img" aria-label="{escape(alt)}">'
    return head + text[text.index(">") + 1 :]


def _smaller(image: str) -> str:
    """A PNG with 256 colours in place of one with all, both in base64; dots look the same in a third of the bytes."""
    from PIL import Image

    known, stream = base64.b64decode(image), BytesIO()
    if len(known) < _SMALL:
        return image
    with Image.open(BytesIO(known)) as full:
        full.convert("RGBA").quantize(256, method=Image.Quantize.FASTOCTREE).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
