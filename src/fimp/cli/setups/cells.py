"""Flags of tasks on cells."""

from __future__ import annotations

from typing import Annotated

import typer

from fimp.errors import FIMPError

Data = Annotated[list[str], typer.Option(help="An .h5ad file, or a name that `fimp data list` shows; may be repeated.")]
Fraction = Annotated[float, typer.Option(help="Share of cells: a contiguous crop (paper: 0.05).")]
Tokens = Annotated[int, typer.Option(help="Most genes sampled per cell.")]
Layer = Annotated[str | None, typer.Option(help="Layer with the values, X or raw; chosen by default.")]
SpatialKey = Annotated[str, typer.Option(help="Key of the coordinates in obsm.")]
Graph = Annotated[str, typer.Option(help="auto, knn, radius, delaunay, expression or none.")]
Neighbors = Annotated[int, typer.Option(help="Neighbours per cell.")]
Genes = Annotated[int, typer.Option(help="Number of genes kept, the most variable.")]
MinCounts = Annotated[int, typer.Option(help="Cells of fewer counts say nothing; they stay in the graph.")]
Section = Annotated[str | None, typer.Option(help="Column of obs with sections, or none; recognised by default.")]
TestSection = Annotated[list[str] | None, typer.Option(help="Section that is held out for testing; may be repeated.")]
Vocabulary = Annotated[
    str | None,
    typer.Option(
        help="Folder of a foundation model: only genes that it knows are used. FOLDER,mapping=FILE renames them."
    ),
]
Split = Annotated[str, typer.Option(help="random, or blocks of neighbouring cells.")]


def source_of(data: list[str]) -> str | list[str]:
    """The source, or sources, that ``--data`` names.

    Raises
    ------
    FIMPError
        If it is empty.
    """
    if not all(one.strip() for one in data):
        raise FIMPError("--data: empty; pass an .h5ad file or a name that `fimp data list` shows")
    return data[0] if len(data) == 1 else data
