"""Recordings as BrainLM's programs store them: folders that Hugging Face's ``datasets`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fimp.data.recording_files import Stored, guarded
from fimp.data.regions import Regions
from fimp.errors import FIMPError

#: The folder that holds coordinates, beside those that hold recordings.
COORDINATES = "Brain_Region_Coordinates"
#: Columns that are read: the signal as it was recorded, the file it was in, and whose it is.
_SIGNAL, _FILE, _SUBJECT = "Raw_Recording", "Filename", "Patient ID"


def is_arrow(folder: Path) -> bool:
    """Whether recordings of this layout are in a folder."""
    return (folder / COORDINATES).is_dir()


def read_arrow(folder: Path) -> tuple[Regions, list[tuple[Path, Stored]]]:
    """Read the recordings of all folders in a folder.

    Parameters
    ----------
    folder
        Holds ``Brain_Region_Coordinates`` (columns ``Index``, ``X``, ``Y``, ``Z``) and any other folders, such as
        ``train_ukbiobank1000``, with column ``Raw_Recording`` (``[time, regions]``, or ``[regions, time]`` as BrainLM's
        toolkit writes it) and optionally ``Filename`` and ``Patient ID``. Columns with signals that were normalised
        over recordings are not looked at.

    Returns
    -------
    tuple
        The regions, and every recording with a path that names it, its axes in the order in which they are stored.

    Raises
    ------
    FIMPError
        If pyarrow is not installed, or a file cannot be read or lacks a column.

    References
    ----------
    https://github.com/vandijklab/BrainLM, ``convert_ukbiobank_to_arrow.py`` and ``toolkit/BrainLM_Toolkit.py``
    """
    out = []
    for part in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != COORDINATES):
        for file in sorted(part.glob("*.arrow")):
            out += guarded(_recordings, file)
    files = sorted((folder / COORDINATES).glob("*.arrow"))
    if len(files) != 1:
        raise FIMPError(f"{folder / COORDINATES}: {len(files)} .arrow files, wanted one; copy the folder again")
    return guarded(_regions, files[0]), out


def _regions(path: Path) -> Regions:
    table = _table(path, ("Index", "X", "Y", "Z"))
    index, *xyz = (np.asarray(table[name].to_numpy(), dtype=np.float64) for name in ("Index", "X", "Y", "Z"))
    order = index.argsort(kind="stable")
    places = np.stack(xyz, axis=1)[order]
    if not np.isfinite(places).all():
        raise FIMPError(f"{path}: a coordinate is no finite number; copy the file again")
    return Regions(places, tuple(f"{number:g}" for number in index[order]))


def _recordings(path: Path) -> list[tuple[Path, Stored]]:
    table = _table(path, (_SIGNAL,))
    out = []
    for row in range(table.num_rows):
        name = _text(table, _FILE, row) or f"row {row}"
        stored = Stored(_matrix(table[_SIGNAL][row], f"{path}, {name}"), subject=_text(table, _SUBJECT, row))
        out.append((path.parent / name, stored))
    return out


def _matrix(cell: Any, what: str) -> NDArray[np.floating]:
    """A list of equally long lists of numbers."""
    rows = cell.values
    lengths = set() if rows is None else set(rows.value_lengths().to_pylist())
    if len(lengths) != 1:
        raise FIMPError(f"{what}: rows of {_SIGNAL} have different lengths, or there is none; write or copy it again")
    # A copy: what lies in the file must not change when the file does.
    return np.array(rows.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(rows), -1)


def _text(table: Any, column: str, row: int) -> str | None:
    """An entry of a column of texts; None where there is none, or it is empty."""
    found = table[column][row].as_py() if column in table.column_names else None
    return str(found) if found else None


def _table(path: Path, wanted: tuple[str, ...]) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise FIMPError(
            f"{path}: .arrow files are read by the package pyarrow, which is not installed; pip install 'fimp[arrow]'"
        ) from error
    with pyarrow.memory_map(str(path)) as file:
        table = pyarrow.ipc.open_stream(file).read_all()
    for column in wanted:
        if column not in table.column_names:
            found = ", ".join(table.column_names[:8])
            raise FIMPError(
                f"{path}: no column {column!r}, found {found}; wanted {', '.join(wanted)}, as BrainLM has it"
            )
    return table
