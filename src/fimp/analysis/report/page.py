"""A report's content, and the HTML page that it becomes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from fimp.analysis.style import styled, to_svg
from fimp.errors import FIMPError

#: Pixels of an image per pixel of the page, and the width in pixels below which figures cannot be read.
_DENSITY, _READABLE = 1.5, 520


@dataclass(frozen=True)
class Table:
    """A table with a header; columns whose index is in ``numbers`` are aligned to the right."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    numbers: tuple[int, ...] = ()
    #: Rows that stand out.
    strong: tuple[int, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure with what it shows in a few words (``alt``) and how to read it (``caption``)."""

    markup: Markup
    alt: str
    caption: str
    #: Images come on white, whatever the page.
    paper: bool = False


@dataclass
class Section:
    """A part of the report under a heading."""

    mark: str
    title: str
    text: list[str] = field(default_factory=list)
    parts: list[Table | Picture] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Page:
    """A whole report."""

    title: str
    lead: str
    facts: list[tuple[str, str]]
    sections: list[Section]
    left_out: list[str]
    footer: str

    def html(self) -> str:
        """The page, everything but drawings escaped; it needs no other file and no network."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        folder = resources.files("fimp.analysis.report")
        template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
        style = Markup((folder / "page.css").read_text(encoding="utf-8"))
        return template.render(page=self, style=style)


def draw(mark: str, alt: str, make: Callable[[], tuple[Figure, str]]) -> Picture:
    """A picture of what ``make`` draws; it gives the figure and the caption.

    Parameters
    ----------
    mark
        Name of the figure on the page; no other has it.
    alt
        What it shows, for those who do not see it.
    make
        Draws it, in the style of the report.
    """
    with styled():
        figure, caption = make()
        markup = Markup(to_svg(figure, mark, alt))
    return Picture(markup, alt, caption)


def image(path: Path, alt: str, caption: str) -> Picture:
    """A picture of a PNG file, which becomes part of the page.

    Raises
    ------
    FIMPError
        If it is no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            width = opened.width / _DENSITY
    except OSError as error:
        raise FIMPError(f"{path}: is no image ({error}); remove it, or make it again") from error
    # On a phone it is scrolled, not shrunk until nobody can read it.
    style = f"max-width: {width:.0f}px; min-width: {min(width, _READABLE):.0f}px"
    data = base64.b64encode(path.read_bytes()).decode()
    markup = Markup('<img src="data:image/png;base64,{}" style="{}" alt="{}">').format(data, style, alt)
    return Picture(markup, alt, caption, paper=True)
