"""How cells are read."""

from __future__ import annotations

from dataclasses import dataclass

from fimp.errors import FIMPError

GRAPHS = ("auto", "knn", "radius", "delaunay", "expression", "none")


@dataclass(frozen=True)
class CellOptions:
    """How an AnnData is read.

    Attributes
    ----------
    layer
        Layer with the values, ``"X"`` or ``"raw"``; None chooses (see :func:`fimp.data.matrix.read_matrix`).
    spatial_key
        Key of the coordinates in ``obsm``.
    graph
        ``auto``: ``obsp["spatial_connectivities"]`` if there, else kNN on coordinates, else kNN in
        expression. Or ``knn``, ``radius``, ``delaunay``, ``expression``, or ``none`` for cells without edges. No edge
        crosses sections.
    neighbors
        Neighbours per cell of a kNN graph; for ``radius``, the number that half of the cells reach.
    fraction
        Share of cells kept: a contiguous crop around a random cell, of every section.
    genes
        Number of genes kept: those that vary most among the cells used (test sections do not count).
    section
        Column of obs that tells sections apart. None takes the first of ``section``, ``slice``, ``library_id``
        and ``batch`` that looks like it (see :func:`fimp.data.sections.read_sections`), ``"none"`` takes none.
    test_section
        Names of sections that are the test part, and from which nothing else is learned.
    label
        Column of obs with the class of each cell, for classification.
    outside
        Keep the cells outside the crop of ``fraction`` instead, for instance to pretrain on what a comparison of the
        crop does not see.
    vocabulary
        Folder of a foundation model: only genes that it knows are read (:func:`fimp.tasks.cells.read_cells`).
    min_counts
        Cells of fewer counts say nothing (:func:`fimp.data.matrix.silence`). They stay in the graph.

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    layer: str | None = None
    spatial_key: str = "spatial"
    graph: str = "auto"
    neighbors: int = 8
    fraction: float = 1.0
    genes: int = 1000
    section: str | None = None
    test_section: tuple[str, ...] = ()
    label: str | None = None
    outside: bool = False
    vocabulary: str | None = None
    min_counts: int = 10

    def __post_init__(self) -> None:
        if self.graph not in GRAPHS:
            raise FIMPError(f"--graph: {self.graph!r} is unknown; use {', '.join(GRAPHS)}")
        if self.neighbors < 1:
            raise FIMPError(f"--neighbors: {self.neighbors} is below 1; use 8, for instance")
        if not 0.0 < self.fraction <= 1.0:
            raise FIMPError(f"--fraction: {self.fraction} is outside (0, 1]; use 0.05, for instance")
        if self.outside and self.fraction == 1.0:
            raise FIMPError("--outside: no cell is outside a crop of all cells; use 0.05, for instance")
        if self.min_counts < 0:
            raise FIMPError(f"--min-counts: {self.min_counts} is below 0; use 10, or 0 to take cells as they are")
        if self.genes < 1:
            raise FIMPError(f"--genes: {self.genes} is below 1; use 1000, for instance")
        # A single name, and the list that a configuration file gives back.
        names = (self.test_section,) if isinstance(self.test_section, str) else tuple(self.test_section)
        object.__setattr__(self, "test_section", names)
