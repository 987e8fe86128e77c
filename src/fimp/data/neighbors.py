"""The graph of a table of cells, built section by section."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data import graphs
from fimp.data.columns import Coded
from fimp.data.disk_matrix import Values
from fimp.data.options import CellOptions
from fimp.data.reading import Cells
from fimp.errors import FIMPError


def neighbor_edges(cells: Cells, values: Values, options: CellOptions) -> tuple[Tensor, list[str]]:
    """Edges ``[2, E]`` of a table of cells, none of which crosses sections, and notes.

    Parameters
    ----------
    cells
        The cells.
    values
        Their values as the model sees them ``[N, G]``, for a graph from expression; a section's are in memory then.
    options
        Kind of graph.

    Raises
    ------
    FIMPError
        If the kind of graph needs coordinates and there are none, or Delaunay has no triangulation.
    """
    if options.graph == "none":
        return torch.zeros(2, 0, dtype=torch.int64), ["graph: none"]
    if cells.adjacency is not None:
        return _within(graphs.adjacency_graph(cells.adjacency), cells.section)
    count, positions, section = len(cells.index), cells.positions, cells.section
    # A cell has no more neighbours than there are other cells.
    k = min(options.neighbors, max((len(rows) for rows in _groups(count, section)), default=1) - 1)
    where = f"obsm['{options.spatial_key}']"
    if options.graph == "expression" or (options.graph == "auto" and positions is None):
        why = "" if options.graph == "expression" else f"no coordinates in {where}: "
        note = (
            f"graph: {why}{k} nearest cells in expression. It is made from all values, hidden "
            "ones too, so scores on it are optimistic"
        )
        return _per_section(count, section, lambda rows: graphs.expression_graph(values[rows], k)), [note]
    if positions is None:
        raise FIMPError(
            f"{cells.name}: --graph {options.graph} needs coordinates in {where}; add them, or train with --graph "
            "expression"
        )
    if options.graph == "delaunay":
        edges = _per_section(count, section, lambda rows: _delaunay(positions[rows], rows, cells))
        return edges, [f"graph: Delaunay of {where}"]
    if options.graph == "radius":
        radius = _radius(positions, k, section)
        edges = _per_section(count, section, lambda rows: graphs.radius_graph(positions[rows], radius))
        return edges, [f"graph: within {radius:.4g} units of {where}"]
    edges = _per_section(count, section, lambda rows: graphs.knn_graph(positions[rows], k))
    return edges, [f"graph: {k} nearest cells in {where}"]


def _groups(count: int, section: Coded | None) -> list[NDArray[np.int64]]:
    """Cells that may be neighbours: the sections of two cells or more."""
    if section is None:
        found = [np.arange(count)]
    else:
        found = [np.flatnonzero(section.codes == code) for code in range(len(section.names))]
    return [rows for rows in found if len(rows) > 1]


def _per_section(count: int, section: Coded | None, build: Callable[[NDArray[np.int64]], Tensor]) -> Tensor:
    edges = [torch.from_numpy(rows)[build(rows)] for rows in _groups(count, section)]
    return torch.cat([*edges, torch.zeros(2, 0, dtype=torch.int64)], 1)


def _radius(positions: NDArray[np.float64], neighbors: int, section: Coded | None) -> float:
    """One radius for all sections: half of all cells have that many neighbours within it."""
    distances = [graphs.neighbor_distance(positions[rows], neighbors) for rows in _groups(len(positions), section)]
    return float(np.median(np.concatenate(distances))) if distances else 0.0


def _delaunay(positions: NDArray[np.float64], rows: NDArray[np.int64], cells: Cells) -> Tensor:
    if len(positions) <= positions.shape[1]:
        # Too few for a triangle or tetrahedron: all see each other.
        return graphs.knn_graph(positions, len(positions) - 1)
    try:
        return graphs.delaunay_graph(positions)
    except FIMPError as error:
        if cells.section is None:
            raise
        raise FIMPError(f"section {cells.section.names[cells.section.codes[rows[0]]]!r}: {error}") from error


def _within(edge_index: Tensor, section: Coded | None) -> tuple[Tensor, list[str]]:
    """Cut edges between sections, and those of cells that are in none."""
    notes = ["graph: obsp['spatial_connectivities']"]
    if section is None:
        return edge_index, notes
    source, destination = torch.from_numpy(section.codes)[edge_index]
    keep = (source == destination) & (source >= 0)
    if cut := int((~keep).sum()):
        notes.append(f"graph: cut {cut:,} edges of obsp['spatial_connectivities'] that cross sections")
    return edge_index[:, keep], notes
