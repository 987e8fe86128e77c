"""Tables of brain regions: where they lie, and what they are called."""

from __future__ import annotations

import csv
from collections.abc import Sequence
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
    columns = _columns(path, ("x", "y", "z"))
    if "index" in columns:
        order = np.argsort(_index(columns, path), kind="stable")
        columns = {title: [cells[row] for row in order] for title, cells in columns.items()}
    return Regions(_places(columns, path), *_called(columns, range(len(columns["x"]))))


def write_regions(regions: Regions, path: Path) -> None:
    """Write a table that :func:`read_regions` reads."""
    columns: dict[str, Sequence[object]] = {"index": range(len(regions)), "name": regions.names}
    columns |= {axis: [repr(float(value)) for value in regions.xyz[:, k]] for k, axis in enumerate("xyz")}
    if regions.networks is not None:
        columns["network"] = regions.networks
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def named_regions(numbers: Sequence[int], xyz: NDArray[np.float64], atlas: Path, path: Path | None) -> Regions:
    """The regions of an atlas, R of them.

    Parameters
    ----------
    numbers
        Their numbers in the atlas, ascending.
    xyz
        Their centres in mm, ``[R, 3]``.
    atlas
        The atlas's file, for messages.
    path
        A table as for :func:`read_regions`, in which coordinates may be missing and ``index`` is a region's number in
        the atlas; without ``index``, rows are in ascending order of these. Coordinates and names are taken from it
        where it has them; rows of other regions are left out. None where there is no table.

    Raises
    ------
    FIMPError
        If the table cannot be read, or lacks a region.
    """
    if path is None:
        return Regions(xyz, tuple(map(str, numbers)))
    columns = _columns(path, ())
    if "index" in columns:
        row_of = {number: row for row, number in enumerate(_index(columns, path).tolist())}
        missing = [number for number in numbers if number not in row_of]
        if missing:
            raise FIMPError(
                f"{path}: no row with index {missing[0]}, a region of {atlas} ({len(missing)} are missing); add it"
            )
        columns = {title: [cells[row_of[number]] for number in numbers] for title, cells in columns.items()}
    elif (rows := len(next(iter(columns.values())))) != len(numbers):
        raise FIMPError(
            f"{path}: {rows} rows and no column 'index', but {atlas} has {len(numbers)} regions; add their numbers as "
            "column 'index'"
        )
    given = all(axis in columns for axis in ("x", "y", "z"))
    return Regions(_places(columns, path) if given else xyz, *_called(columns, numbers))


def _columns(path: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Columns of a table by their titles in small letters."""
    try:
        head, *rows = read_table(path)
    except (OSError, ValueError) as error:
        if isinstance(error, FIMPError):
            raise
        what = getattr(error, "strerror", None) or type(error).__name__
        raise FIMPError(f"{path}: cannot be read as a table ({what}); write or copy it again") from error
    titles = [title.strip().lower() for title in head]
    for title in wanted:
        if title not in titles:
            raise FIMPError(
                f"{path}: no column {title!r}, found {', '.join(titles[:10])}; wanted x, y and z of every region"
            )
    if not rows:
        raise FIMPError(f"{path}: no regions, wanted a row for each; write or copy it again")
    return {title: [row[place].strip() for row in rows] for place, title in enumerate(titles)}


def _index(columns: dict[str, list[str]], path: Path) -> NDArray[np.float64]:
    index = _numbers(columns["index"], "index", path)
    if len(np.unique(index)) < len(index):
        raise FIMPError(f"{path}: numbers in column 'index' stand twice; number every region once")
    return index


def _places(columns: dict[str, list[str]], path: Path) -> NDArray[np.float64]:
    return np.stack([_numbers(columns[axis], axis, path) for axis in ("x", "y", "z")], axis=1)


def _called(columns: dict[str, list[str]], numbers: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Names and networks; numbers in place of names that are not there."""
    networks = columns.get("network")
    return tuple(columns.get("name", map(str, numbers))), None if networks is None else tuple(networks)


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
