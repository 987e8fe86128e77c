"""Files of one parcellated recording each: NumPy, MATLAB, HDF5 and tables of text. Nothing is unpickled."""

from __future__ import annotations

import csv
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

T = TypeVar("T")

#: Entries of an archive that are looked at before any other.
_NAMED = ("signal", "tr", "subject", "dataset", "structural")
#: What stands in tables for a value that is missing.
_MISSING = ("", "na", "n/a", "nan", "null")


@dataclass(frozen=True)
class Stored:
    """What a file holds, its axes in the order in which they are stored.

    Attributes
    ----------
    signal
        Two axes, of regions and of time, whichever comes first.
    tr
        Seconds per volume, where the file says so.
    subject, dataset
        Names, where the file says so.
    structural
        Connections between regions, where the file has them.
    """

    signal: NDArray[np.floating]
    tr: float | None = None
    subject: str | None = None
    dataset: str | None = None
    structural: NDArray[np.floating] | None = None


def read_recording_file(path: Path) -> Stored:
    """Read one recording.

    ``.npz``, ``.mat`` (of any version), ``.h5`` and ``.hdf5`` hold ``signal``, or one matrix of numbers under any name;
    ``tr``, ``subject``, ``dataset`` and ``structural`` are optional. ``.npy`` is a matrix; ``.csv`` and ``.tsv`` are
    tables, which may name their rows and columns.

    Raises
    ------
    FIMPError
        If the file cannot be read, needs unpickling, or holds no matrix of real numbers, or several.
    """
    return guarded(READERS[path.suffix.lower()], path)


def guarded(read: Callable[[Path], T], path: Path) -> T:
    """What ``read`` makes of a file; whatever goes wrong is a :class:`FIMPError` of one line.

    Raises
    ------
    FIMPError
        If ``read`` raises anything.
    """
    try:
        return read(path)
    except FIMPError:
        raise
    except OSError as error:
        what = error.strerror or " ".join(str(error).split())[:120]
        raise FIMPError(f"{path}: cannot be opened ({what}); write or copy it again") from error
    # What a damaged file raises depends on the byte that is wrong.
    except Exception as error:
        if "pickle" in str(error):
            raise FIMPError(
                f"{path}: holds Python objects or is no NumPy file, wanted numbers; save it as an array of numbers"
            ) from error
        what = " ".join(str(error).split())[:120] or type(error).__name__
        raise FIMPError(f"{path}: damaged or of another format ({what}); write or copy it again") from error


def read_table(path: Path) -> list[list[str]]:
    """Rows of a table of text, columns separated by tabs in ``.tsv`` and by commas otherwise.

    Raises
    ------
    FIMPError
        If it is empty, or rows differ in length.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",") if row]
    if not rows:
        raise FIMPError(f"{path}: empty, wanted a table; write or copy it again")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise FIMPError(
                f"{path}: row {number} has {len(row)} columns and row 1 has {len(rows[0])}, wanted equally many; "
                "write or copy it again"
            )
    return rows


def _npy(path: Path) -> Stored:
    return Stored(_real(np.load(path, allow_pickle=False), f"{path}: the array"))


def _npz(path: Path) -> Stored:
    if not zipfile.is_zipfile(path):
        raise FIMPError(f"{path}: not an .npz archive, or truncated; write or copy it again")
    with np.load(path, allow_pickle=False) as archive:
        names = [name for name in archive.files if name in _NAMED] if "signal" in archive.files else archive.files
        return _of_arrays({name: archive[name] for name in names}, path)


def _mat(path: Path) -> Stored:
    from scipy import io

    try:
        found = io.loadmat(path, appendmat=False)
    except NotImplementedError:  # version 7.3 is HDF5, which holds the axes of MATLAB in reverse
        stored = _hdf5(path)
        structural = None if stored.structural is None else stored.structural.T
        return replace(stored, signal=stored.signal.T, structural=structural)
    return _of_arrays({key: value for key, value in found.items() if not key.startswith("__")}, path)


def _hdf5(path: Path) -> Stored:
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and (name in _NAMED or (item.ndim == 2 and min(item.shape) > 1)):
            found[name] = item

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        if "signal" in found:
            found = {name: item for name, item in found.items() if name in _NAMED}
        return _of_arrays({name: np.asarray(item[()]) for name, item in found.items()}, path)


def _text(path: Path) -> Stored:
    """A table of numbers; a first row and a first column that name or number the others are left out."""
    cells = np.array(read_table(path))
    if not all(_is_value(cell) for cell in cells[0, 1:]) or _is_numbering(cells[0, 1:]):
        cells = cells[1:]
    if not all(_is_value(cell) for cell in cells[:, 0]) or _is_numbering(cells[:, 0]):
        cells = cells[:, 1:]
    values = np.full(cells.shape, np.nan)
    for (row, column), cell in np.ndenumerate(cells):
        if not _is_value(cell):
            raise FIMPError(
                f"{path}: {str(cell)!r} stands in row {row + 1}, column {column + 1} of the values, wanted a number; "
                "correct it, or leave it empty"
            )
        values[row, column] = math.nan if _is_missing(cell) else float(cell)
    return Stored(_real(values, f"{path}: the table"))


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _is_value(cell: str) -> bool:
    """Whether a cell of a table holds a number, or says that one is missing."""
    try:
        float(cell)
    except ValueError:
        return _is_missing(cell)
    return True


def _is_numbering(cells: NDArray[np.str_]) -> bool:
    """Whether cells count 0, 1, 2 ... or 1, 2, 3 ..., which no signal does."""
    if len(cells) < 3 or not all(cell.strip().isdecimal() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


READERS: dict[str, Callable[[Path], Stored]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".csv": _text,
    ".tsv": _text,
    ".mat": _mat,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}


def _of_arrays(arrays: Mapping[str, NDArray], path: Path) -> Stored:
    """Pick the signal, and what goes with it, out of named arrays."""
    name = "signal"
    if name not in arrays:
        # What MATLAB stores has two axes, even where it is a single number.
        matrices = [key for key, array in arrays.items() if array.ndim == 2 and min(array.shape) > 1]
        matrices = [key for key in matrices if _is_real(arrays[key]) and key != "structural"]
        if len(matrices) != 1:
            found = f"several matrices ({', '.join(matrices[:6])})" if matrices else "no matrix of numbers"
            raise FIMPError(f"{path}: holds {found} and none named signal; name it signal")
        name = matrices[0]
    return Stored(
        _real(arrays[name], f"{path}: {name}"),
        _tr(arrays.get("tr"), path),
        _name(arrays.get("subject")),
        _name(arrays.get("dataset")),
        _connections(arrays.get("structural"), path),
    )


def _is_real(array: NDArray) -> bool:
    """Whether an array holds real numbers."""
    return array.dtype.kind in "fiu"


def _real(array: NDArray, what: str) -> NDArray[np.floating]:
    if array.ndim != 2 or not _is_real(array):
        raise FIMPError(
            f"{what} has shape {list(array.shape)} and type {array.dtype}, wanted real numbers [regions, time]; "
            "save one recording per file"
        )
    with warnings.catch_warnings():
        # A number too large for float32 becomes infinite, which readers report.
        warnings.simplefilter("ignore", RuntimeWarning)
        return array.astype(np.float32 if array.dtype.itemsize <= 4 and array.dtype.kind == "f" else np.float64)


def _tr(stored: NDArray | None, path: Path) -> float | None:
    if stored is None:
        return None
    value = float(stored.reshape(-1)[0]) if stored.size == 1 and _is_real(stored) else math.nan
    if not 0.0 < value < math.inf:
        raise FIMPError(f"{path}: tr is {stored.tolist()!r}, wanted seconds per volume; correct or remove it")
    return value


def _connections(stored: NDArray | None, path: Path) -> NDArray[np.floating] | None:
    if stored is None:
        return None
    if stored.ndim != 2 or stored.shape[0] != stored.shape[1] or not _is_real(stored):
        raise FIMPError(
            f"{path}: structural has shape {list(stored.shape)} and type {stored.dtype}, wanted real numbers "
            "[regions, regions]; correct or remove it"
        )
    return np.nan_to_num(stored.astype(np.float64), posinf=0.0, neginf=0.0)


def _name(stored: NDArray | None) -> str | None:
    """A text, however it is stored; None where it is none."""
    if stored is None or stored.size != 1:
        return None
    value = stored.reshape(-1)[0]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.strip() or None
