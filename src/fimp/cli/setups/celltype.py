"""Flags of the task ``celltype``."""

from __future__ import annotations

from typing import Annotated

import typer

from fimp.cli.setups import cells
from fimp.cli.setups.base import Setup


def setup(
    data: cells.Data,
    label: Annotated[str, typer.Option(help="Column of obs with the labels; missing values are unlabelled cells.")],
    fraction: cells.Fraction = 1.0,
    tokens: cells.Tokens = 100,
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
    class_weights: Annotated[str, typer.Option(help="none, or balanced: rare classes weigh more.")] = "none",
) -> Setup:
    """Classify cells (paper table 2)."""
    from fimp.data.cells import CellOptions
    from fimp.tasks import CellTypeOptions

    return Setup(
        "celltype",
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
            label,
            vocabulary=vocabulary,
            min_counts=min_counts,
        ),
        CellTypeOptions(tokens=tokens, split=split, class_weights=class_weights),
    )
