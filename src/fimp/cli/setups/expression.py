"""Flags of the task ``expression``."""

from __future__ import annotations

from typing import Annotated

import typer

from fimp.cli.setups import cells
from fimp.cli.setups.base import Setup


def setup(
    data: cells.Data,
    fraction: cells.Fraction = 1.0,
    tokens: cells.Tokens = 50,
    layer: cells.Layer = None,
    spatial_key: cells.SpatialKey = "spatial",
    graph: cells.Graph = "auto",
    neighbors: cells.Neighbors = 8,
    genes: cells.Genes = 1000,
    min_counts: cells.MinCounts = 10,
    section: cells.Section = None,
    test_section: cells.TestSection = None,
    vocabulary: cells.Vocabulary = None,
    split: cells.Split = "random",
    normalize: Annotated[str, typer.Option(help="Scale by total or by visible counts.")] = "total",
    zeros: Annotated[float, typer.Option(help="Share of tokens from genes a cell does not express.")] = 0.0,
    members: Annotated[
        int | None, typer.Option(help="Networks whose mean a model is; by default 1, or up to 4 for few cells.")
    ] = None,
) -> Setup:
    """Predict hidden gene expression (paper table 1)."""
    from fimp.data.cells import CellOptions
    from fimp.tasks import ExpressionOptions

    return Setup(
        "expression",
        cells.source_of(data),
        CellOptions(
            layer,
            spatial_key,
            graph,
            neighbors,
            fraction,
            genes,
            section,
            tuple(test_section or ()),
            vocabulary=vocabulary,
            min_counts=min_counts,
        ),
        ExpressionOptions(tokens=tokens, zeros=zeros, split=split, normalize=normalize, members=members),
    )
