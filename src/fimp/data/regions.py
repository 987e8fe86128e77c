"""Tables of brain regions: where they lie, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fimp.data.recording_files import read_table
from fimp.errors import FIMPError

#: The table that is looked for beside recordings.
REGION_TABLE = "regions.csv"


@dataclass(frozen=True)
class Regions:
    """Regions of a parcellation, R of them, in the order of the rows of a signal.

    Attributes
    ----------
    xyz
        Coordinates as in the table, in mm as a rule, ``[R, 3]``.
    names
        R of them; their numbers from 0 where the table has none.
    networks
        The network of each region, where the table has them.
    """

    xyz: NDArray[np.float64]
    names: tuple[str, ...]
    networks: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)


def read_regions(path: Path) -> Regions:
    """Read a table of regions.

    Parameters
    ----------
    path
        A .csv or .tsv file with columns ``x``, ``y`` and ``z``, and optionally ``index``, ``name`` and ``network``, in
        capitals or not. Row i is region i of every signal; with ``index`` rows may stand in any order.

    Raises
    ------
    FIMPError
        If it cannot be read, lacks a column or rows, or an entry is no number or an index stands twice.
    """
    try:
        head, *rows = read_table(path)
    except (OSError, ValueError) as error:
        if isinstance(error, FIMPError):
            raise
        what = getattr(error, "strerror", None) or type(error).__name__
        raise FIMPError(f"{path}: cannot be read as a table ({what}); write or copy it again") from error
    titles = [title.strip().lower() for title in head]
    for wanted in ("x", "y", "z"):
        if wanted not in titles:
            raise FIMPError(
                f"{path}: no column {wanted!r}, found {', '.join(titles[:10])}; wanted x, y and z of every region"
            )
    if not rows:
        raise FIMPError(f"{path}: no regions, wanted a row for each; write or copy it again")
    columns = {title: [row[place].strip() for row in rows] for place, title in enumerate(titles)}
    if "index" in columns:
        index = _numbers(columns["index"], "index", path)
        if len(np.unique(index)) < len(index):
            raise FIMPError(f"{path}: numbers in column 'index' stand twice; number every region once")
        order = np.argsort(index, kind="stable")
        columns = {title: [cells[row] for row in order] for title, cells in columns.items()}
    xyz = np.stack([_numbers(columns[axis], axis, path) for axis in ("x", "y", "z")], axis=1)
    names = columns.get("name", [str(row) for row in range(len(rows))])
    networks = columns.get("network")
    return Regions(xyz, tuple(names), None if networks is None else tuple(networks))


def _numbers(cells: list[str], column: str, path: Path) -> NDArray[np.float64]:
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            values[row] = float(cell)
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise FIMPError(f"{path}: column {column!r} has {cell!r} for region {row}, wanted a finite number")
    return values
