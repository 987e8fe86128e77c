"""Flags of tasks on cells."""

from __future__ import annotations

from typing import Annotated

import typer

from fimp.errors import FIMPError

Data = Annotated[str, typer.Option(help="An .h5ad file, or a name that `fimp data list` shows.")]
Fraction = Annotated[float, typer.Option(help="Share of cells: a contiguous crop (paper: 0.05).")]
Tokens = Annotated[int, typer.Option(help="Most genes sampled per cell.")]
Layer = Annotated[str | None, typer.Option(help="Layer with the values, X or raw; chosen by default.")]
SpatialKey = Annotated[str, typer.Option(help="Key of the coordinates in obsm.")]
Graph = Annotated[str, typer.Option(help="auto, knn, radius, delaunay or expression.")]
Neighbors = Annotated[int, typer.Option(help="Neighbours per cell.")]
Split = Annotated[str, typer.Option(help="random, or blocks of neighbouring cells.")]


def source_of(data: str) -> str:
    """The source that ``--data`` names.

    Raises
    ------
    FIMPError
        If it is empty.
    """
    if not data.strip():
        raise FIMPError("--data: empty; pass an .h5ad file or a name that `fimp data list` shows")
    return data
