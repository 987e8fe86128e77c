"""From the matrices of an AnnData to one validated sparse matrix of model values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.data.disk_matrix import Values, map_rows, row_blocks, row_sums
from fimp.data.stored import read_stored
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

#: Cells that a share of counts is taken from, at most.
_SAMPLED = 4096


@dataclass(frozen=True)
class Matrix:
    """The chosen expression matrix.

    Attributes
    ----------
    values
        ``[N, G]`` float32 without stored zeros, CSR or on disk (:func:`fimp.data.stored.read_stored`): counts, or
        continuous values.
    is_counts
        Whether they are raw counts (non-negative integers).
    source
        Where they come from: ``X``, ``raw`` or ``layers[NAME]``.
    notes
        What a user should know about the choice.
    """

    values: Values
    is_counts: bool
    source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """A matrix, and what one pass over it says: values that are not finite, the least, and whether all are whole."""

    values: Values
    bad: int
    first_bad: int
    low: float
    whole: bool

    @classmethod
    def of(cls, values: Values) -> _Read:
        bad, first_bad, low, whole = 0, -1, np.inf, True
        for rows, block in row_blocks(values):
            wrong = np.flatnonzero(~np.isfinite(block.data))
            if len(wrong) and not bad:
                first_bad = rows.start + int(np.searchsorted(block.indptr, wrong[0], side="right") - 1)
            bad += len(wrong)
            low = float(np.minimum(low, block.data.min(initial=np.inf)))
            whole = whole and bool(np.all(block.data == np.rint(block.data)))
        return cls(values, bad, first_bad, low, whole)

    @property
    def is_counts(self) -> bool:
        return self.values.nnz > 0 and self.low >= 0 and self.whole


def read_matrix(adata: AnnData, layer: str | None, name: str, *, prefer_counts: bool = True) -> Matrix:
    """Choose and check the matrix of an AnnData.

    ``layer`` is the name of a layer, ``"X"`` or ``"raw"``. By default it is X; where X is not raw counts,
    ``layers["counts"]`` if there; where X has negative values (scaled data), ``raw`` if there;
    where X is None, the first of these two that is there. Without ``prefer_counts``, for a model of other values,
    X is taken although counts are there too.

    Raises
    ------
    FIMPError
        If the layer does not exist, or the values are NaN, infinite, negative counts or all zero.
    """
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise FIMPError(f"{name}: {adata.n_obs} cells and {adata.n_vars} genes; wanted at least one of each")
    if layer is not None:
        return _checked(_stored(adata, layer, name), layer_name(layer), name)
    if _main(adata, name) is None:
        layer = "counts" if "counts" in adata.layers or adata.raw is None else "raw"
        if layer == "counts" and "counts" not in adata.layers:
            have = f"name a layer with --layer ({', '.join(adata.layers)})" if adata.layers else "store a matrix there"
            raise FIMPError(f"{name}: X is empty; {have}")
        return _checked(_stored(adata, layer, name), layer_name(layer), name, f"X is empty: used {layer_name(layer)}")
    read = _stored(adata, "X", name)
    if read.is_counts:
        return _checked(read, "X", name)
    if prefer_counts and "counts" in adata.layers:
        counts = _stored(adata, "counts", name)
        if counts.is_counts:
            return _checked(counts, layer_name("counts"), name, "X is not raw counts: used layers['counts']")
    if read.low < 0 and not read.whole and adata.raw is not None:
        raw = _stored(adata, "raw", name)
        return _checked(raw, "raw", name, "X has negative values (scaled data): used raw")
    return _checked(read, "X", name)


def layer_name(layer: str) -> str:
    """How a matrix is named in messages."""
    return layer if layer in ("X", "raw") else f"layers['{layer}']"


def _stored(adata: AnnData, layer: str, name: str) -> _Read:
    if layer == "X":
        stored = _main(adata, name)
        if stored is None:
            raise FIMPError(f"{name}: X is empty; drop --layer X, or name a layer there is")
    elif layer == "raw":
        if adata.raw is None:
            raise FIMPError(f"{name}: has no raw; drop --layer raw or set adata.raw")
        return _Read.of(_raw(adata, name))
    elif layer in adata.layers:
        stored = adata.layers[layer]
    else:
        have = ", ".join(["X", *(["raw"] if adata.raw is not None else []), *adata.layers])
        raise FIMPError(f"{name}: no layer {layer!r}; it has {have}")
    if tuple(stored.shape) != adata.shape:
        raise FIMPError(
            f"{name}: {layer_name(layer)} has shape {list(stored.shape)}, wanted {list(adata.shape)}; "
            "the file may be damaged: write or copy it again"
        )
    return _Read.of(read_stored(stored, name))


def _main(adata: AnnData, name: str) -> Any:
    """X, or None where there is none; a backed AnnData does not expect that."""
    try:
        return None if adata.isbacked and "X" not in adata.file else adata.X
    # What is on disk decides what anndata stumbles over.
    except Exception as error:
        raise FIMPError(f"{name}: X cannot be read ({error}); the file may be damaged: copy it again") from error


def _raw(adata: AnnData, name: str) -> Values:
    """The columns of ``raw`` that are genes of the AnnData, in its order."""
    duplicated = adata.raw.var_names[adata.raw.var_names.duplicated()]
    if len(duplicated):
        raise FIMPError(
            f"{name}: raw has {len(duplicated)} duplicate gene names (first: {duplicated[0]}); "
            "make them unique, or choose another matrix with --layer"
        )
    position = adata.raw.var_names.get_indexer(adata.var_names)
    if (position < 0).any():
        missing = adata.var_names[position < 0][0]
        raise FIMPError(
            f"{name}: raw lacks {int((position < 0).sum())} genes of var (first: {missing}); "
            "rename the genes of one of them, or choose --layer X"
        )
    return map_rows(read_stored(adata.raw.X, name), lambda rows, _: rows[:, position].tocsr(), len(position))


def _checked(read: _Read, source: str, name: str, *notes: str) -> Matrix:
    if read.bad:
        raise FIMPError(
            f"{name}: {source} has {read.bad} NaN or infinite values (first in cell {read.first_bad}); "
            "remove or replace them"
        )
    if read.values.nnz == 0:
        raise FIMPError(f"{name}: {source} is zero everywhere; choose another matrix with --layer")
    if read.low < 0 and read.whole:
        raise FIMPError(
            f"{name}: {source} has negative counts (lowest {read.low:g}); "
            "repair them or choose another matrix with --layer"
        )
    return Matrix(read.values, read.is_counts, source, notes)


def median_total(counts: Values) -> float:
    """Median total count of the cells that have any; 0 where none has."""
    total = row_sums(counts)
    return float(np.median(total[total > 0])) if (total > 0).any() else 0.0


def kept_share(values: Values, target: float) -> float:
    """Share of a cell's counts that some genes have, in the median of the cells that have any; 0 where none has.

    Parameters
    ----------
    values
        What :func:`normalize_counts` made of these genes' counts, ``[N, G]``.
    target
        Total that the counts of all genes were scaled to.
    """
    # Of very many cells a few tell as much, and values on disk are not all read once more.
    rows = np.unique(np.linspace(0, values.shape[0] - 1, _SAMPLED).astype(np.int64)) if values.shape[0] else None
    sums = [np.asarray(block.expm1().sum(axis=1), dtype=np.float64).ravel() for _, block in row_blocks(values, rows)]
    total = np.concatenate([np.zeros(0), *sums])
    return float(np.median(total[total > 0])) / target if (total > 0).any() else 0.0


def silence(counts: Values, least: int, total: NDArray[np.float64] | None = None) -> tuple[Values, int]:
    """Take away the counts of cells that have too few.

    What is left of a nearly empty cell, scaled to the total of a usual one, is large and means nothing: of a spot of 2
    counts among others of 15,000, each gene seen has a value that no gene of any other spot has.

    Parameters
    ----------
    counts
        ``[N, G]``.
    least
        Fewest counts of a cell that keeps them.
    total
        Total of each cell ``[N]`` where ``counts`` lacks some of its genes; by default the sum of its row.

    Returns
    -------
    tuple
        The counts, and the number of cells that had some and have none now.
    """
    if total is None:
        total = row_sums(counts)
    few = (total > 0) & (total < least)
    if not few.any():
        return counts, 0

    def without(block: sparse.csr_matrix, cells: slice) -> sparse.csr_matrix:
        out = block.copy()
        out.data[np.repeat(few[cells], np.diff(out.indptr))] = 0
        out.eliminate_zeros()
        return out

    return map_rows(counts, without, counts.shape[1]), int(few.sum())


def normalize_counts(
    counts: Values, target: float | None = None, total: NDArray[np.float64] | None = None
) -> tuple[Values, NDArray[np.float64]]:
    """Scale each cell to the same total count and take log1p.

    Parameters
    ----------
    counts
        ``[N, G]``.
    target
        Total to scale to; by default the median total of these cells.
    total
        Total of each cell ``[N]`` where ``counts`` lacks some of its genes; by default the sum of its row.

    Returns
    -------
    tuple
        The values, ``[N, G]`` float32, and the factor of each cell ``[N]`` (0 for an empty cell).
    """
    if total is None:
        total = row_sums(counts)
    target = median_total(counts) if target is None else target
    scale = np.divide(target, total, out=np.zeros_like(total), where=total > 0)

    def scaled(block: sparse.csr_matrix, cells: slice) -> sparse.csr_matrix:
        values = block.copy()
        values.data = np.log1p(values.data * np.repeat(scale[cells], np.diff(values.indptr))).astype(np.float32)
        return values

    return map_rows(counts, scaled, counts.shape[1]), scale
