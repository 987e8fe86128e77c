"""Rows of numbers, one per node, in memory or in a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.errors import FIMPError


class Rows(Protocol):
    """Rows ``[N, W]``."""

    def gather(self, rows: NDArray[np.integer]) -> Tensor:
        """Some rows ``[n, W]``, given in ascending order."""
        ...

    def write(self, start: int, rows: Tensor) -> None:
        """Replace the rows from ``start`` on by ``[n, W]``."""
        ...

    def close(self) -> None:
        """Give back what they take in memory or on disk."""
        ...


class MemoryRows:
    """Rows in memory."""

    def __init__(self, count: int, width: int, dtype: torch.dtype) -> None:
        self._rows: Tensor | None = torch.empty(count, width, dtype=dtype)

    def gather(self, rows: NDArray[np.integer]) -> Tensor:
        """See :class:`Rows`."""
        assert self._rows is not None
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            return self._rows[rows[0] : rows[-1] + 1]
        return self._rows.index_select(0, torch.from_numpy(rows))

    def write(self, start: int, rows: Tensor) -> None:
        """See :class:`Rows`."""
        assert self._rows is not None
        self._rows[start : start + len(rows)] = rows

    def close(self) -> None:
        """See :class:`Rows`."""
        self._rows = None


class FileRows:
    """Rows in a file without a name, which is gone with the process, however that ends.

    The file is read and written where rows are needed, not mapped: pages of a mapped file that were touched count as
    the process's memory until the system wants them back, so that a budget could not be kept, and a fault per page
    costs more than a read per run of adjacent rows (5 to 10 times more, measured on rows of 4 KiB in random and in
    local order). What the system's cache holds of a file costs nobody memory that is needed elsewhere.

    Raises
    ------
    FIMPError
        If the folder cannot be written, or has no room.
    """

    def __init__(self, count: int, width: int, dtype: torch.dtype, folder: Path) -> None:
        self._width, self._dtype = width, dtype
        self._stride = width * dtype.itemsize
        size = count * self._stride
        try:
            free = shutil.disk_usage(folder).free
            if free < size:
                raise FIMPError(
                    f"folder: {folder} has {free / 2**30:.1f} GiB free, wanted {size / 2**30:.1f} GiB for tokens; "
                    "name a larger one, or allow a larger memory_budget"
                )
            # Unbuffered: the system's cache is the only one.
            self._file = tempfile.TemporaryFile(dir=folder, prefix="fimp-", buffering=0)  # noqa: SIM115
            if hasattr(os, "posix_fallocate") and size:
                # Room is taken now, not found missing in the middle.
                os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:
            raise FIMPError(f"folder: {folder} cannot be written ({error.strerror}); name another one") from error

    def gather(self, rows: NDArray[np.integer]) -> Tensor:
        """See :class:`Rows`; adjacent rows are read at once."""
        out = torch.empty(len(rows), self._width, dtype=self._dtype)
        if not out.numel():
            return out
        view, stride = _bytes(out), self._stride
        begin = np.append(0, np.flatnonzero(np.diff(rows) != 1) + 1)
        end = np.append(begin[1:], len(rows))
        for first, last, row in zip(begin.tolist(), end.tolist(), rows[begin].tolist(), strict=True):
            self._file.seek(row * stride)
            part = view[first * stride : last * stride]
            while part:
                part = part[self._file.readinto(part) :]
        return out

    def write(self, start: int, rows: Tensor) -> None:
        """See :class:`Rows`."""
        part = _bytes(rows.contiguous())
        self._file.seek(start * self._stride)
        while part:
            part = part[self._file.write(part) :]

    def close(self) -> None:
        """See :class:`Rows`."""
        self._file.close()


def _bytes(rows: Tensor) -> memoryview:
    array: Any = rows.view(torch.uint8).numpy()
    return memoryview(array).cast("B")


class RowStore:
    """Makes rows in memory as long as they fit a budget, and in files otherwise; closes all of them at the end.

    Parameters
    ----------
    folder
        Where files go.

    Attributes
    ----------
    left
        Bytes of rows that may still be made in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.left, self._folder = 0, folder
        self._made: dict[Rows, int] = {}

    def rows(self, count: int, width: int, dtype: torch.dtype) -> Rows:
        """New rows ``[count, width]``, of any content."""
        size = count * width * dtype.itemsize
        if size <= self.left:
            made: Rows = MemoryRows(count, width, dtype)
            self._made[made] = size
            self.left -= size
        else:
            made = FileRows(count, width, dtype, self._folder)
            self._made[made] = 0
        return made

    def close(self, rows: Rows) -> None:
        """Close some rows; others may take their place in memory."""
        self.left += self._made.pop(rows)
        rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for rows in [*self._made]:
            self.close(rows)


def pack(tensors: tuple[Tensor, ...]) -> Tensor:
    """Tensors ``[n, ...]`` side by side as rows ``[n, W]``."""
    return torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], 1)


def unpack(rows: Tensor, shapes: tuple[torch.Size, ...]) -> tuple[Tensor, ...]:
    """Rows ``[n, W]`` as tensors of the given shapes, less their first dimension."""
    parts: Iterator[Tensor] = iter(rows.split([shape.numel() for shape in shapes], 1))
    return tuple(part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))
