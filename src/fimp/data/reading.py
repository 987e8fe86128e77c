"""One AnnData becomes a table of cells: values, coordinates, sections and labels, all checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.data.cell_graph import CellReference
from fimp.data.columns import Coded
from fimp.data.datasets import DATASETS, load_dataset
from fimp.data.disk_matrix import Values, row_sums, take_rows
from fimp.data.genes import match_genes, take_genes
from fimp.data.h5ad import close, read_h5ad
from fimp.data.labels import read_label
from fimp.data.matrix import Matrix, read_matrix
from fimp.data.options import CellOptions
from fimp.data.sections import read_sections
from fimp.data.zarr_store import is_zarr, read_zarr
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Cells:
    """Cells of one or several files, before crop, normalisation and graph.

    Attributes
    ----------
    name, stem
        Name in messages, and the short one of a section.
    values
        Counts or continuous values ``[N, G]``, CSR or on disk.
    total
        Total count of each cell ``[N]`` where ``values`` lacks genes that count; else None.
    is_counts, source
        Whether values are counts, and where they come from.
    genes
        Names, G of them.
    positions
        Coordinates ``[N, 2 or 3]``, or None.
    adjacency
        ``obsp["spatial_connectivities"]`` where the graph is to be made of it, CSR ``[N, N]``; else None.
    section, label
        Columns, or None.
    index
        Rows of the AnnData, ``[N]``; of several AnnData one below the other.
    notes
        Remarks for the user.
    """

    name: str
    stem: str
    values: Values
    total: NDArray[np.float64] | None
    is_counts: bool
    source: str
    genes: list[str]
    positions: NDArray[np.float64] | None
    adjacency: sparse.csr_matrix | None
    section: Coded | None
    label: Coded | None
    index: NDArray[np.int64]
    notes: tuple[str, ...]

    def take(self, rows: NDArray[np.int64]) -> Cells:
        """Some of the cells."""
        return replace(
            self,
            values=take_rows(self.values, rows),
            total=None if self.total is None else self.total[rows],
            positions=None if self.positions is None else self.positions[rows],
            adjacency=None if self.adjacency is None else self.adjacency[rows][:, rows],
            section=None if self.section is None else self.section.take(rows).used(),
            label=None if self.label is None else self.label.take(rows),
            index=self.index[rows],
        )


@contextmanager
def open_source(source: AnnData | str | Path) -> Iterator[tuple[AnnData, str]]:
    """An AnnData and its name: one in memory, the path of an .h5ad file or .zarr store, or the name of a dataset.

    Raises
    ------
    FIMPError
        If it is none of these, or cannot be read.
    """
    if isinstance(source, str) and source in DATASETS and not Path(source).exists():
        yield load_dataset(source), source
    elif isinstance(source, (str, Path)):
        adata = read_zarr(source) if is_zarr(source) else read_h5ad(source)
        try:
            yield adata, str(source)
        finally:
            close(adata)
    elif hasattr(source, "var_names"):
        yield source, "AnnData"
    else:
        raise FIMPError(
            f"cells: a {type(source).__name__} is no AnnData; pass one, the path of an .h5ad file or .zarr store, or "
            "the name of a dataset"
        )


def read_cells(adata: AnnData, options: CellOptions, name: str, stem: str, reference: CellReference | None) -> Cells:
    """Read and check everything in an AnnData that options ask for.

    With a reference, the genes are those of the trained model, missing ones as zeros.

    Raises
    ------
    FIMPError
        For anything that cannot be used.
    """
    duplicated = adata.var_names[adata.var_names.duplicated()]
    if len(duplicated):
        raise FIMPError(
            f"{name}: {len(duplicated)} duplicate gene names (first: {duplicated[0]}); "
            "call adata.var_names_make_unique() and save again"
        )
    matrix = _matrix(adata, options, name, reference)
    values, total, genes, notes = matrix.values, None, [str(gene) for gene in adata.var_names], [*matrix.notes]
    section, how = read_sections(adata.obs, options.section, name, for_model=reference is not None)
    notes += how
    if reference is not None:
        if matrix.is_counts:
            total = row_sums(values)
        columns, how = match_genes(genes, reference.gene_names, name)
        values, genes = take_genes(values, columns), list(reference.gene_names)
        notes += how
    label, how = _label(adata, options, name, reference)
    notes += how
    return Cells(
        name=name,
        stem=stem,
        values=values,
        total=total,
        is_counts=matrix.is_counts,
        source=matrix.source,
        genes=genes,
        positions=_positions(adata, options, name),
        adjacency=_adjacency(adata, options, name),
        section=section,
        label=label,
        index=np.arange(adata.n_obs),
        notes=tuple(notes),
    )


def _matrix(adata: AnnData, options: CellOptions, name: str, reference: CellReference | None) -> Matrix:
    wanted = reference is None or reference.target_total is not None
    matrix = read_matrix(adata, options.layer, name, prefer_counts=wanted)
    if reference is None:
        return matrix
    if matrix.is_counts == wanted:
        return matrix
    kinds = ("raw counts", "values that are not counts (normalised, for instance)")
    trained, found = kinds if wanted else kinds[::-1]
    raise FIMPError(
        f"{name}: {matrix.source} holds {found}, but the model was trained on {trained}; store such values in X"
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


def _adjacency(adata: AnnData, options: CellOptions, name: str) -> sparse.csr_matrix | None:
    if options.graph != "auto" or "spatial_connectivities" not in adata.obsp:
        return None
    adjacency = sparse.csr_matrix(adata.obsp["spatial_connectivities"])
    if not np.isfinite(adjacency.data).all():
        raise FIMPError(f"{name}: obsp['spatial_connectivities'] has NaN or infinite entries; use --graph knn")
    return adjacency


def _label(
    adata: AnnData, options: CellOptions, name: str, reference: CellReference | None
) -> tuple[Coded | None, list[str]]:
    if options.label is None:
        return None, []
    if reference is not None and (reference.classes is None or options.label not in adata.obs):
        return None, []
    return read_label(adata.obs, options.label, name)
