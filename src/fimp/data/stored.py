"""From the matrix of a store, whatever its layout, to sparse rows in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.data.disk_matrix import (
    ENTRIES,
    DiskMatrix,
    Values,
    as_csr,
    open_temporary,
    read_all,
    spans,
    write_all,
)
from fimp.data.memory import memory_budget
from fimp.errors import FIMPError

#: Dense matrices are turned into sparse ones in blocks of this many elements.
_BLOCK = 2**22
#: Bytes per entry that are held at most on the way from a store to a graph in memory: as they are stored, as CSR, its
#: normalised copy and what that is computed from, and the indices that torch wants.
_BYTES = 48
_TRIPLE = np.dtype([("row", np.int32), ("column", np.int32), ("value", np.float32)])


def read_stored(stored: Any, name: str) -> Values:
    """Rows of float32 without stored zeros ``[N, G]``, in the order and of the values that ``stored`` has.

    What is in memory already stays there. What is in a store is read into memory if it fits the budget
    (:func:`fimp.data.memory.memory_budget`), by the most that it can take; otherwise it is written row by row into a
    :class:`DiskMatrix`, of which only :data:`fimp.data.disk_matrix.ENTRIES` entries are held at once, and for one that
    is stored by columns the pointers of rows and columns.

    Parameters
    ----------
    stored
        A dense or sparse matrix: NumPy's, SciPy's, of HDF5 or zarr, or anndata's view of a sparse one there.
    name
        Name of the data in messages.

    Raises
    ------
    FIMPError
        If it is damaged or not numeric, or there is no room for it on disk.
    """
    if fits(stored, name):
        return to_csr(stored, name)
    with _reading(name):
        _check_numeric(stored)
        return DiskMatrix.write(map(_canonical, _blocks(stored, name)), int(stored.shape[1]))


def fits(stored: Any, name: str) -> bool:
    """Whether a matrix is in memory, or fits the budget by the most that it can take."""
    if isinstance(stored, np.ndarray) or sparse.issparse(stored):
        return True
    return _BYTES * _entries(stored, name) <= memory_budget()


def to_csr(stored: Any, name: str) -> sparse.csr_matrix:
    """CSR float32 copy of a dense, sparse or backed matrix, without ever holding it dense as a whole.

    Raises
    ------
    FIMPError
        If it is damaged or not numeric.
    """
    with _reading(name):
        _check_numeric(stored)
        if hasattr(stored, "to_memory"):
            if np.dtype(stored.dtype) == np.float16:  # of which SciPy makes no matrix
                return _canonical(sparse.csr_matrix(sparse.vstack([*_blocks(stored, name)], format="csr")))
            stored = stored.to_memory()
        if not sparse.issparse(stored):
            return _canonical(sparse.csr_matrix(sparse.vstack([*_dense_blocks(stored)], format="csr")))
        _check_indices(stored, name)
        # This copies. It comes first, since SciPy makes no matrix of one of half precision.
        return _canonical(sparse.csr_matrix(stored.astype(np.float32)))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """What goes wrong in a store, as an error of ours."""
    try:
        # What overflows becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            yield
    except FIMPError:
        raise
    except (OSError, KeyError, RuntimeError) as error:
        raise FIMPError(
            f"{name}: its matrix cannot be read ({error}); the file may be damaged: copy it again"
        ) from error
    except (TypeError, ValueError) as error:
        raise FIMPError(f"{name}: its matrix is not numeric ({error}); store numbers") from error


def _entries(stored: Any, name: str) -> int:
    """Entries of a matrix in a store; a dense one may have no zeros."""
    if not hasattr(stored, "to_memory"):
        return int(stored.shape[0]) * int(stored.shape[1])
    with _reading(name):
        return int(stored.group["data"].shape[0])


def _check_numeric(stored: Any) -> None:
    if np.dtype(stored.dtype).kind == "c":
        raise TypeError("complex numbers")


def _canonical(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    rows.sum_duplicates()
    rows.eliminate_zeros()
    rows.sort_indices()
    return rows


def _check_indices(stored: Any, name: str) -> None:
    """Refuse indices that point outside: SciPy's compiled code would follow them."""
    if not hasattr(stored, "check_format"):
        return
    try:
        stored.check_format(full_check=True)
    except ValueError as error:
        raise _damaged(name, error) from error


def _damaged(name: str, what: object) -> FIMPError:
    return FIMPError(f"{name}: its matrix is damaged ({what}); write or copy the file again")


def _blocks(stored: Any, name: str) -> Iterator[sparse.csr_matrix]:
    """Rows of a matrix in a store, float32, some at a time."""
    if not hasattr(stored, "to_memory"):
        return _dense_blocks(stored)
    return (_csr_blocks if stored.format == "csr" else _csc_blocks)(stored.group, stored.shape, name)


def _dense_blocks(stored: Any) -> Iterator[sparse.csr_matrix]:
    rows = max(1, _BLOCK // max(1, stored.shape[1]))
    for start in range(0, stored.shape[0], rows):
        yield sparse.csr_matrix(np.asarray(stored[start : start + rows]), dtype=np.float32)


def _pointer(group: Any, count: int, name: str) -> NDArray[np.int64]:
    """Where each of some rows or columns starts ``[count + 1]``, checked."""
    pointer = np.asarray(group["indptr"][...], dtype=np.int64)
    size = min(int(group[key].shape[0]) for key in ("data", "indices"))
    if len(pointer) != count + 1 or pointer[0] != 0 or (np.diff(pointer) < 0).any() or pointer[-1] > size:
        raise _damaged(name, f"indptr has {len(pointer)} numbers for {count} parts and {size} entries")
    return pointer


def _csr_blocks(group: Any, shape: tuple[int, int], name: str) -> Iterator[sparse.csr_matrix]:
    indptr = _pointer(group, shape[0], name)
    for rows in spans(indptr):
        start, stop = indptr[rows.start], indptr[rows.stop]
        data, indices = np.asarray(group["data"][start:stop], np.float32), np.asarray(group["indices"][start:stop])
        block = as_csr(data, indices, indptr[rows.start : rows.stop + 1] - start, shape[1])
        _check_indices(block, name)
        yield block


def _csc_blocks(group: Any, shape: tuple[int, int], name: str) -> Iterator[sparse.csr_matrix]:
    """Rows of what is stored by columns: entries are sorted into a file by blocks of rows, then block by block.

    The file takes 12 bytes per entry; entries are read twice from the store.
    """
    indptr = _pointer(group, shape[1], name)
    pieces = [slice(start, min(start + ENTRIES, indptr[-1])) for start in range(0, indptr[-1], ENTRIES)]
    counts = np.zeros(shape[0], np.int64)
    for piece in pieces:
        rows = np.asarray(group["indices"][piece])
        if rows.min() < 0 or rows.max() >= shape[0]:
            raise _damaged(name, f"rows {rows.min()} to {rows.max()} of {shape[0]}")
        counts += np.bincount(rows, minlength=shape[0])
    starts = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
    blocks = [*spans(starts)]
    block_of = np.repeat(np.arange(len(blocks)), [block.stop - block.start for block in blocks])
    place = starts[[block.start for block in blocks]]
    with open_temporary() as file:
        for piece in pieces:
            rows = np.asarray(group["indices"][piece])
            of, order = block_of[rows], np.argsort(block_of[rows], kind="stable")
            triples = np.empty(len(rows), _TRIPLE)
            triples["row"] = rows[order]
            triples["column"] = np.searchsorted(indptr, np.arange(piece.start, piece.stop), side="right")[order] - 1
            triples["value"] = np.asarray(group["data"][piece])[order]
            found, first = np.unique(of[order], return_index=True)
            for block, part in zip(found, np.split(triples, first[1:]), strict=True):
                write_all(file, part, int(place[block]) * _TRIPLE.itemsize)
                place[block] += len(part)
        for span in blocks:
            pointer = starts[span.start : span.stop + 1] - starts[span.start]
            triples = np.empty(pointer[-1], _TRIPLE)
            read_all(file, triples, int(starts[span.start]) * _TRIPLE.itemsize)
            # Columns came in order, and so they stay within a row.
            triples = triples[np.argsort(triples["row"], kind="stable")]
            yield as_csr(triples["value"].copy(), triples["column"].copy(), pointer, shape[1])
