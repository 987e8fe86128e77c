"""From the matrices of an AnnData to one validated sparse matrix of model values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

#: Dense matrices are turned into sparse ones in blocks of this many elements.
_BLOCK = 2**24


@dataclass(frozen=True)
class Matrix:
    """The chosen expression matrix.

    Attributes
    ----------
    values
        CSR ``[N, G]`` float32 without stored zeros: counts, or continuous values.
    is_counts
        Whether they are raw counts (non-negative integers).
    source
        Where they come from: ``X``, ``raw`` or ``layers[NAME]``.
    notes
        What a user should know about the choice.
    """

    values: sparse.csr_matrix
    is_counts: bool
    source: str
    notes: tuple[str, ...]


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
    values = _stored(adata, "X", name)
    if _is_counts(values):
        return _checked(values, "X", name)
    if prefer_counts and "counts" in adata.layers:
        counts = _stored(adata, "counts", name)
        if _is_counts(counts):
            return _checked(counts, layer_name("counts"), name, "X is not raw counts: used layers['counts']")
    negative = values.nnz > 0 and values.data.min() < 0 and not _all_integers(values)
    if negative and adata.raw is not None:
        raw = _stored(adata, "raw", name)
        return _checked(raw, "raw", name, "X has negative values (scaled data): used raw")
    return _checked(values, "X", name)


def layer_name(layer: str) -> str:
    """How a matrix is named in messages."""
    return layer if layer in ("X", "raw") else f"layers['{layer}']"


def _stored(adata: AnnData, layer: str, name: str) -> sparse.csr_matrix:
    if layer == "X":
        stored = _main(adata, name)
        if stored is None:
            raise FIMPError(f"{name}: X is empty; drop --layer X, or name a layer there is")
    elif layer == "raw":
        if adata.raw is None:
            raise FIMPError(f"{name}: has no raw; drop --layer raw or set adata.raw")
        return _raw(adata, name)
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
    return to_csr(stored, name)


def _main(adata: AnnData, name: str) -> Any:
    """X, or None where there is none; a backed AnnData does not expect that."""
    try:
        return None if adata.isbacked and "X" not in adata.file else adata.X
    # What is on disk decides what anndata stumbles over.
    except Exception as error:
        raise FIMPError(f"{name}: X cannot be read ({error}); the file may be damaged: copy it again") from error


def _raw(adata: AnnData, name: str) -> sparse.csr_matrix:
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
    return to_csr(adata.raw.X, name)[:, position].tocsr()


def to_csr(stored: Any, name: str) -> sparse.csr_matrix:
    """CSR float32 copy of a dense, sparse or backed matrix, without ever holding it dense as a whole.

    Parameters
    ----------
    stored
        Matrix ``[N, G]``, as AnnData gives it.
    name
        Name of the data, for messages.

    Raises
    ------
    FIMPError
        If it cannot be read, is damaged, or holds no real numbers.
    """
    try:
        if hasattr(stored, "to_memory"):
            stored = stored.to_memory()
        if np.dtype(stored.dtype).kind == "c":
            raise TypeError("complex numbers")
        # What overflows becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            if sparse.issparse(stored):
                _check_indices(stored, name)
                out = sparse.csr_matrix(stored, dtype=np.float32, copy=True)
            else:
                rows = max(1, _BLOCK // max(1, stored.shape[1]))
                blocks = [
                    sparse.csr_matrix(np.asarray(stored[start : start + rows]), dtype=np.float32)
                    for start in range(0, stored.shape[0], rows)
                ]
                out = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    except FIMPError:
        raise
    except (OSError, KeyError, RuntimeError) as error:
        raise FIMPError(
            f"{name}: its matrix cannot be read ({error}); the file may be damaged: copy it again"
        ) from error
    except (TypeError, ValueError) as error:
        raise FIMPError(f"{name}: its matrix is not numeric ({error}); store numbers") from error
    out.sum_duplicates()
    out.eliminate_zeros()
    out.sort_indices()
    return out


def _check_indices(stored: Any, name: str) -> None:
    """Refuse indices that point outside: SciPy's compiled code would follow them."""
    if not hasattr(stored, "check_format"):
        return
    try:
        stored.check_format(full_check=True)
    except ValueError as error:
        raise FIMPError(f"{name}: its matrix is damaged ({error}); write or copy the file again") from error


def _all_integers(values: sparse.csr_matrix) -> bool:
    return bool(np.all(values.data == np.rint(values.data)))


def _is_counts(values: sparse.csr_matrix) -> bool:
    return values.nnz > 0 and bool(values.data.min() >= 0) and _all_integers(values)


def _checked(values: sparse.csr_matrix, source: str, name: str, *notes: str) -> Matrix:
    bad = ~np.isfinite(values.data)
    if bad.any():
        row = int(np.searchsorted(values.indptr, np.flatnonzero(bad)[0], side="right") - 1)
        raise FIMPError(
            f"{name}: {source} has {int(bad.sum())} NaN or infinite values (first in cell {row}); "
            "remove or replace them"
        )
    if values.nnz == 0:
        raise FIMPError(f"{name}: {source} is zero everywhere; choose another matrix with --layer")
    if values.data.min() < 0 and _all_integers(values):
        raise FIMPError(
            f"{name}: {source} has negative counts (lowest {values.data.min():g}); "
            "repair them or choose another matrix with --layer"
        )
    return Matrix(values, _is_counts(values), source, notes)


def median_total(counts: sparse.csr_matrix) -> float:
    """Median total count of the cells that have any; 0 where none has."""
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return float(np.median(total[total > 0])) if (total > 0).any() else 0.0


def silence(
    counts: sparse.csr_matrix, least: int, total: NDArray[np.float64] | None = None
) -> tuple[sparse.csr_matrix, int]:
    """Take away the counts of cells that have too few.

    What is left of a nearly empty cell, scaled to the total of a usual one, is large and means nothing: of a spot of 2
    counts among others of 15,000, each gene seen has a value that no gene of any other spot has.

    Parameters
    ----------
    counts
        CSR ``[N, G]``.
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
        total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    few = (total > 0) & (total < least)
    if not few.any():
        return counts, 0
    out = counts.copy()
    out.data[np.repeat(few, np.diff(out.indptr))] = 0
    out.eliminate_zeros()
    return out, int(few.sum())


def normalize_counts(
    counts: sparse.csr_matrix, target: float | None = None, total: NDArray[np.float64] | None = None
) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    """Scale each cell to the same total count and take log1p.

    Parameters
    ----------
    counts
        CSR ``[N, G]``.
    target
        Total to scale to; by default the median total of these cells.
    total
        Total of each cell ``[N]`` where ``counts`` lacks some of its genes; by default the sum of its row.

    Returns
    -------
    tuple
        The values, CSR ``[N, G]`` float32, and the factor of each cell ``[N]`` (0 for an empty cell).
    """
    if total is None:
        total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    target = median_total(counts) if target is None else target
    scale = np.divide(target, total, out=np.zeros_like(total), where=total > 0)
    values = counts.copy()
    values.data = np.log1p(values.data * np.repeat(scale, np.diff(values.indptr))).astype(np.float32)
    return values, scale
