"""Cells: an AnnData becomes a graph of cells with sparse expression."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data

from fimp.data import graphs
from fimp.data.datasets import DATASETS, load_dataset
from fimp.data.h5ad import read_h5ad
from fimp.data.matrix import normalize_counts, read_matrix
from fimp.data.splits import check_size, crop
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

GRAPHS = ("auto", "knn", "radius", "delaunay", "expression")


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
        expression. Or ``knn``, ``radius``, ``delaunay``, ``expression``.
    neighbors
        Neighbours per cell of a kNN graph; for ``radius``, the number that half of the cells reach.
    fraction
        Share of cells kept: a contiguous crop around a random cell.
    """

    layer: str | None = None
    spatial_key: str = "spatial"
    graph: str = "auto"
    neighbors: int = 8
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.graph not in GRAPHS:
            raise FIMPError(f"--graph: {self.graph!r} is unknown; use {', '.join(GRAPHS)}")
        if self.neighbors < 1:
            raise FIMPError(f"--neighbors: {self.neighbors} is below 1; use 8, for instance")
        if not 0.0 < self.fraction <= 1.0:
            raise FIMPError(f"--fraction: {self.fraction} is outside (0, 1]; use 0.05, for instance")


class CellGraph(Data):  # type: ignore[misc]
    """A graph of cells with the attributes that :func:`load_cells` documents."""

    @property
    def scale(self) -> Tensor | None:
        """Factors of counts; without this property PyG would lose a None and raise."""
        return self["scale"] if "scale" in self._store else None


def load_cells(
    source: str | Path | AnnData, options: CellOptions = CellOptions(), name: str | None = None
) -> CellGraph:
    """Read an AnnData, or a file of one, into a graph of cells.

    Parameters
    ----------
    source
        An AnnData or the path of an .h5ad file.
    options
        Matrix, graph and crop.
    name
        Name in messages and results; the file's name by default.

    Returns
    -------
    CellGraph
        A ``torch_geometric.data.Data`` with

        - ``x``: values, sparse CSR ``[N, G]`` float32 (log1p of normalised counts, or continuous)
        - ``scale``: factor of each cell's counts before log1p ``[N]`` float64, or None where values are not counts
        - ``edge_index``: ``[2, E]``, source in row 0
        - ``pos``: coordinates ``[N, 2 or 3]`` float64, or None
        - ``cell_index``: rows of the AnnData that the nodes are ``[N]``
        - ``gene_names``, ``name``, ``notes``: lists of strings, a name, and remarks for the user

    Raises
    ------
    FIMPError
        For anything in the file that cannot be used.
    """
    if isinstance(source, (str, Path)):
        adata, name = read_h5ad(source), str(source) if name is None else name
    else:
        adata, name = source, "AnnData" if name is None else name
    try:
        return _to_data(adata, options, name)
    finally:
        if isinstance(source, (str, Path)):
            adata.file.close()


def read_source(source: AnnData | str | Path, options: CellOptions) -> CellGraph:
    """Graph of an AnnData, of a file, or of a named dataset."""
    if isinstance(source, str) and source in DATASETS and not Path(source).exists():
        return load_cells(load_dataset(source), options, name=source)
    return load_cells(source, options)


def _to_data(adata: AnnData, options: CellOptions, name: str) -> CellGraph:
    duplicated = adata.var_names[adata.var_names.duplicated()]
    if len(duplicated):
        raise FIMPError(
            f"{name}: {len(duplicated)} duplicate gene names (first: {duplicated[0]}); "
            "call adata.var_names_make_unique() and save again"
        )
    matrix = read_matrix(adata, options.layer, name)
    notes = [*matrix.notes]
    positions = _positions(adata, options, name)
    values = matrix.values
    cells = np.arange(adata.n_obs)
    if options.fraction < 1.0:
        cells = crop(_crop_space(positions, values), options.fraction)
        values, positions = values[cells], None if positions is None else positions[cells]
    check_size(len(cells), name)
    if values.nnz == 0:
        raise FIMPError(f"{name}: every value of the cropped cells is zero; use a larger --fraction")
    scale = None
    if matrix.is_counts:
        values, scale = normalize_counts(values)
        notes.append(f"{matrix.source}: raw counts, scaled to the median total of a cell, then log1p")
    else:
        notes.append(f"{matrix.source}: not raw counts; used as they are, without normalisation or log1p")
    edge_index, how = _graph(adata, options, positions, values, cells, name)
    if positions is not None and (repeated := len(positions) - len(np.unique(positions, axis=0))):
        notes.append(f"{repeated} cells lie exactly where another cell lies; check for cells listed twice")
    return CellGraph(
        x=to_torch(values),
        scale=None if scale is None else torch.from_numpy(scale),
        edge_index=edge_index,
        pos=None if positions is None else torch.from_numpy(positions),
        cell_index=torch.from_numpy(cells),
        num_nodes=len(cells),
        gene_names=[str(gene) for gene in adata.var_names],
        name=name,
        notes=[*notes, *how],
    )


def _positions(adata: AnnData, options: CellOptions, name: str) -> NDArray[np.float64] | None:
    key = options.spatial_key
    if key not in adata.obsm:
        if key != "spatial":
            raise FIMPError(f"{name}: no obsm[{key!r}]; --spatial-key can be {', '.join(adata.obsm) or 'nothing here'}")
        return None
    stored = adata.obsm[key]
    try:
        positions = np.asarray(stored.toarray() if sparse.issparse(stored) else stored, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FIMPError(f"{name}: obsm[{key!r}] is not numeric; store x, y (and z) as numbers") from error
    if positions.ndim != 2 or positions.shape[1] not in (2, 3):
        raise FIMPError(f"{name}: obsm[{key!r}] has shape {list(positions.shape)}, wanted [cells, 2] or [cells, 3]")
    bad = int((~np.isfinite(positions)).any(axis=1).sum())
    if bad:
        raise FIMPError(
            f"{name}: {bad} cells have NaN or infinite coordinates in obsm[{key!r}]; "
            "remove these cells, or the whole key for a graph from expression"
        )
    return np.ascontiguousarray(positions)


def _crop_space(positions: NDArray[np.float64] | None, values: sparse.csr_matrix) -> NDArray[np.floating]:
    """Where 'contiguous' is measured: coordinates, or the first principal components of expression."""
    if positions is not None:
        return positions
    return graphs.principal_components(values, 10)


def _graph(
    adata: AnnData,
    options: CellOptions,
    positions: NDArray[np.float64] | None,
    values: sparse.csr_matrix,
    cells: NDArray[np.int64],
    name: str,
) -> tuple[Tensor, list[str]]:
    kind = options.graph
    if kind == "auto" and "spatial_connectivities" in adata.obsp:
        adjacency = sparse.csr_matrix(adata.obsp["spatial_connectivities"])
        if not np.isfinite(adjacency.data).all():
            raise FIMPError(f"{name}: obsp['spatial_connectivities'] has NaN or infinite entries; use --graph knn")
        return graphs.adjacency_graph(adjacency[cells][:, cells]), ["graph: obsp['spatial_connectivities']"]
    if kind == "expression" or (kind == "auto" and positions is None):
        why = "" if kind == "expression" else f"no coordinates in obsm['{options.spatial_key}']: "
        note = (
            f"graph: {why}{options.neighbors} nearest cells in expression. It is made from all values, hidden "
            "ones too, so scores on it are optimistic"
        )
        return graphs.expression_graph(values, options.neighbors), [note]
    if positions is None:
        raise FIMPError(
            f"{name}: --graph {kind} needs coordinates in obsm['{options.spatial_key}']; use --graph expression"
        )
    where = f"obsm['{options.spatial_key}']"
    if kind == "delaunay":
        return graphs.delaunay_graph(positions), [f"graph: Delaunay of {where}"]
    if kind == "radius":
        radius = graphs.median_neighbor_distance(positions, options.neighbors)
        return graphs.radius_graph(positions, radius), [f"graph: within {radius:.4g} units of {where}"]
    return graphs.knn_graph(positions, options.neighbors), [f"graph: {options.neighbors} nearest cells in {where}"]


def to_torch(values: sparse.csr_matrix) -> Tensor:
    """SciPy CSR to torch CSR."""
    with warnings.catch_warnings():
        # torch calls its whole CSR layout a beta; only storage is used here.
        warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
        return torch.sparse_csr_tensor(
            torch.from_numpy(values.indptr.astype(np.int64)),
            torch.from_numpy(values.indices.astype(np.int64)),
            torch.from_numpy(np.ascontiguousarray(values.data)),
            size=values.shape,
            check_invariants=False,
        )


def to_scipy(x: Tensor) -> sparse.csr_matrix:
    """Torch CSR to SciPy CSR, sharing memory."""
    parts = (x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy())
    return sparse.csr_matrix(parts, shape=tuple(x.shape))
