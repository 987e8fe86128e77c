"""Sparse matrices whose entries are in a file, for cells whose values do not fit memory."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.errors import FIMPError

#: Entries that are looked at together. Sums over cells are made block by block, in memory too, so that they do not
#: depend on where values are.
ENTRIES = 2**20
_ENTRY = np.dtype([("column", np.int32), ("value", np.float32)])


class DiskMatrix:
    """A matrix of float32 in rows, as SciPy's CSR, with its entries in a file without a name.

    Memory holds where each row starts (8 bytes a row), and what :meth:`__getitem__` and :meth:`blocks` return. The file
    takes 8 bytes per entry of the folder for temporary files (``TMPDIR``), uncompressed: a row is one read. It is gone
    with the matrix and with the process, however that ends. A matrix is written once, by :meth:`write`.

    Attributes
    ----------
    shape
        Rows and columns.
    indptr
        ``[rows + 1]``: entries of row i are numbers ``indptr[i]`` to ``indptr[i + 1]``.
    """

    def __init__(self, columns: int) -> None:
        self.shape = (0, columns)
        self.indptr: NDArray[np.int64] = np.zeros(1, np.int64)
        self._file = open_temporary()
        # What is still open when Python ends would be complained about.
        weakref.finalize(self, self._file.close)

    @classmethod
    def write(cls, blocks: Iterable[sparse.csr_matrix], columns: int) -> Self:
        """Write rows that come in blocks ``[n, columns]``, one below the other.

        Raises
        ------
        FIMPError
            If there is no room for them.
        """
        matrix, lengths = cls(columns), [np.zeros(1, np.int64)]
        for block in blocks:
            entries = np.empty(block.nnz, _ENTRY)
            entries["column"], entries["value"] = block.indices, block.data
            write_all(matrix._file, entries)
            lengths.append(np.diff(block.indptr).astype(np.int64))
        matrix.indptr = np.concatenate(lengths).cumsum()
        matrix.shape = (len(matrix.indptr) - 1, columns)
        return matrix

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return int(self.indptr[-1])

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> sparse.csr_matrix:
        """Some rows, in memory: indices ``[n]`` in any order, or True for each row that is wanted ``[rows]``.

        They are read in ascending order, adjacent ones at once, and each once.
        """
        wanted = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows, dtype=np.int64)
        if not len(wanted) or (np.diff(wanted) > 0).all():
            return self._read(wanted)
        once, place = np.unique(wanted, return_inverse=True)
        return self._read(once)[place]

    def _read(self, rows: NDArray[np.int64]) -> sparse.csr_matrix:
        """Rows ``[n]`` in ascending order."""
        counts = self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        entries = np.empty(indptr[-1], _ENTRY)
        first = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        bounds = np.append(indptr[first], indptr[-1]).tolist()
        for start, stop, entry in zip(bounds, bounds[1:], self.indptr[rows[first]].tolist(), strict=False):
            read_all(self._file, entries[start:stop], entry * _ENTRY.itemsize)
        return as_csr(entries["value"].copy(), entries["column"].copy(), indptr, self.shape[1])

    def blocks(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """All rows in order, some at a time."""
        return row_blocks(self)


#: Values of cells ``[N, G]``, in memory or on disk.
Values: TypeAlias = sparse.csr_matrix | DiskMatrix


def open_temporary() -> Any:
    """A file without a name, unbuffered, that is read and written by position.

    Raises
    ------
    FIMPError
        If there is no folder for it.
    """
    try:
        return tempfile.TemporaryFile(prefix="fimp-", buffering=0)
    except OSError as error:
        raise _no_room(error) from error


def write_all(file: Any, entries: NDArray[Any], place: int | None = None) -> None:
    """Write records to a file, at a byte or where it stands.

    Raises
    ------
    FIMPError
        If there is no room.
    """
    left = _bytes(np.ascontiguousarray(entries))
    try:
        if place is not None:
            file.seek(place)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise _no_room(error) from error


def read_all(file: Any, entries: NDArray[Any], place: int) -> None:
    """Fill records with what is in a file from a byte on."""
    left = _bytes(entries)
    file.seek(place)
    while left:
        if not (count := file.readinto(left)):
            raise OSError("the file of values on disk ended early")
        left = left[count:]


def _bytes(entries: NDArray[Any]) -> memoryview:
    array: Any = entries.view(np.uint8)
    return memoryview(array).cast("B") if len(array) else memoryview(b"")


def _no_room(error: OSError) -> FIMPError:
    return FIMPError(
        f"{os.environ.get('TMPDIR', tempfile.gettempdir())}: values that do not fit memory cannot be written here "
        f"({error.strerror}); set TMPDIR to a folder with more room, or allow more memory with FIMP_MEMORY_BUDGET"
    )


def as_csr(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[np.int64], columns: int) -> sparse.csr_matrix:
    """A CSR matrix of its parts, unchecked."""
    kind = np.int32 if indices.dtype == np.int32 and indptr[-1] < 2**31 else np.int64
    matrix = sparse.csr_matrix((len(indptr) - 1, columns), dtype=data.dtype)
    matrix.data, matrix.indices, matrix.indptr = data, indices.astype(kind, copy=False), indptr.astype(kind, copy=False)
    return matrix


def spans(indptr: NDArray[np.integer]) -> Iterator[slice]:
    """Rows one after the other, :data:`ENTRIES` at most or a single row; and no more rows than that."""
    start, count = 0, len(indptr) - 1
    while start < count:
        stop = int(np.searchsorted(indptr, indptr[start] + ENTRIES, side="right")) - 1
        stop = min(max(stop, start + 1), start + ENTRIES, count)
        yield slice(start, stop)
        start = stop


def row_blocks(values: Values, rows: NDArray[np.int64] | None = None) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    """Rows of a matrix in the order given, some at a time: which of them, and their values ``[n, G]``.

    Parameters
    ----------
    values
        ``[N, G]``.
    rows
        Which ``[n]``; all by default.
    """
    counts = np.diff(values.indptr).astype(np.int64)
    chosen = np.arange(len(counts)) if rows is None else rows
    for span in spans(np.concatenate([np.zeros(1, np.int64), counts[chosen].cumsum()])):
        yield span, values[chosen[span]]


def map_rows(values: Values, function: Callable[[sparse.csr_matrix, slice], sparse.csr_matrix], columns: int) -> Values:
    """Apply a function of rows, each by itself, and of which rows they are; the result is where the values were.

    Parameters
    ----------
    values
        ``[N, G]``.
    function
        Gives ``[n, columns]`` for ``[n, G]``.
    columns
        Columns of the result.
    """
    if isinstance(values, DiskMatrix):
        return DiskMatrix.write((function(block, span) for span, block in values.blocks()), columns)
    return function(values, slice(0, values.shape[0]))


def take_rows(values: Values, rows: NDArray[np.int64]) -> Values:
    """Some rows ``[n]``, where the values were."""
    if isinstance(values, DiskMatrix):
        return DiskMatrix.write((block for _, block in row_blocks(values, rows)), values.shape[1])
    return values[rows]


def stack_rows(parts: Sequence[Values]) -> Values:
    """Matrices of the same columns, one below the other: on disk where one of them is."""
    if not any(isinstance(part, DiskMatrix) for part in parts):
        return sparse.vstack(parts, format="csr")
    return DiskMatrix.write((block for _, block in chain(*map(row_blocks, parts))), parts[0].shape[1])


def row_sums(values: Values) -> NDArray[np.float64]:
    """Sum of each row, ``[N]``."""
    sums = [np.asarray(block.sum(axis=1), dtype=np.float64).ravel() for _, block in row_blocks(values)]
    return np.concatenate([np.zeros(0), *sums])


def column_sums(values: Values, rows: NDArray[np.int64] | None = None, *, counts: bool = False) -> NDArray[np.float64]:
    """Sum of each column ``[G]`` over some rows or all; with ``counts``, number of its entries instead."""
    total = np.zeros(values.shape[1])
    for _, block in row_blocks(values, rows):
        total += np.bincount(block.indices, None if counts else block.data, minlength=len(total))
    return total
