"""Which cells or recordings are compared, and what may be exchanged between the two groups."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fimp.data.cell_graph import CellGraph
from fimp.data.columns import Coded, listed
from fimp.data.recording_files import read_table
from fimp.data.splits import spatial_blocks
from fimp.errors import FIMPError
from fimp.tasks.fmri import FMRITask

#: Names of the column that says whose row of a table of subjects it is.
SUBJECT_COLUMNS = ("subject", "participant_id", "subject_id")


@dataclass(frozen=True)
class Units:
    """Two groups of nodes, and the exchangeable units that they are in.

    Attributes
    ----------
    groups
        Names of the first and of the second group.
    group
        0 or 1 for each node, -1 for nodes of neither ``[N]``.
    unit
        The unit of each node, from 0, -1 for none ``[N]``.
    count
        Number of units, U.
    what
        What units are, in words.
    """

    groups: tuple[str, str]
    group: NDArray[np.int64]
    unit: NDArray[np.int64]
    count: int
    what: str


def two_of(coded: Coded, chosen: Sequence[str] | None, column: str) -> tuple[tuple[str, str], NDArray[np.int64]]:
    """The two groups of a column.

    Parameters
    ----------
    coded
        The column.
    chosen
        Names of two of its values; by default it must have no more.
    column
        Its name.

    Returns
    -------
    tuple
        Names, and 0, 1 or -1 for each row.

    Raises
    ------
    FIMPError
        If there are not two groups, or a chosen one does not exist.
    """
    coded = coded.used()
    names = list(chosen) if chosen else coded.names
    if len(names) != 2 or names[0] == names[1]:
        raise FIMPError(
            f"--contrast: {column!r} has {len(coded.names)} values ({listed(coded.names, 6)}), wanted two; choose two "
            "with --groups A B, or cut numbers with --cut"
        )
    for name in names:
        if name not in coded.names:
            raise FIMPError(f"--groups: {name!r} is no value of {column!r}; values are {listed(coded.names, 10)}")
    code = np.full(len(coded.names) + 1, -1, dtype=np.int64)
    code[[coded.names.index(name) for name in names]] = (0, 1)
    return (names[0], names[1]), code[coded.codes]


def cut_in_two(coded: Coded, at: float, column: str) -> Coded:
    """A column of numbers as two values: below a number, and from it on.

    Raises
    ------
    FIMPError
        If it is no column of numbers.
    """
    try:
        numbers = np.array([float(name) for name in coded.names])
    except ValueError as error:
        raise FIMPError(f"--cut: {column!r} holds no numbers ({error}); leave it out") from error
    side = np.append((numbers >= at).astype(np.int64), -1)
    return Coded(side[coded.codes], [f"below {at:g}", f"{at:g} and above"], "text")


def cell_units(
    data: CellGraph,
    groups: tuple[str, str],
    group: NDArray[np.int64],
    named: Coded | None = None,
    blocks: int = 6,
) -> Units:
    """Exchangeable units of cells.

    Cells beside each other are alike and hear the same neighbours, so that single cells are not exchangeable. Units are
    those of a column where one is given (animals, for instance); else the sections, where each is of one group; else
    blocks of space within sections.

    Parameters
    ----------
    data
        The graph.
    groups, group
        From :func:`two_of`.
    named
        Column of units.
    blocks
        Blocks along each of two axes of a section.

    Raises
    ------
    FIMPError
        If there is nothing to make units of.
    """
    if named is not None:
        coded = named.used()
        return Units(groups, group, coded.codes, len(coded.names), "units of the column")
    section = None if data.section is None else data.section.numpy()
    if section is not None and _pure(section, group):
        return Units(groups, group, section, int(section.max()) + 1, "sections")
    if data.pos is None:
        raise FIMPError(
            "--contrast: cells have no coordinates and no sections that are of one group each, so nothing can be "
            "exchanged; name independent units by --unit COLUMN"
        )
    if blocks < 2:
        raise FIMPError(f"--blocks: {blocks} is below 2; use 6, for instance")
    positions, unit, count = data.pos.numpy(), np.full(len(group), -1, dtype=np.int64), 0
    for code in np.unique(section[section >= 0]) if section is not None else [None]:
        rows = np.arange(len(group)) if code is None else np.flatnonzero(section == code)
        unit[rows] = count + spatial_blocks(positions[rows], blocks)
        count += blocks**2
    return Units(groups, group, unit, count, "spatial blocks")


def _pure(section: NDArray[np.int64], group: NDArray[np.int64]) -> bool:
    """Whether cells of a section are of one group."""
    used = (section >= 0) & (group >= 0)
    return len(np.unique(np.stack([section[used], group[used]]), axis=1).T) == len(np.unique(section[used]))


def subject_units(task: FMRITask, groups: tuple[str, str], of_subject: dict[str, int]) -> Units:
    """Subjects as exchangeable units of recordings.

    Parameters
    ----------
    task
        The task on the recordings.
    groups
        Names of the groups.
    of_subject
        0 or 1 for subjects; others are of neither group.

    Raises
    ------
    FIMPError
        If no subject of the recordings is in a group.
    """
    items, codes = task.recordings.recordings, task.recordings.subjects
    group = np.array([of_subject.get(item.subject, -1) for item in items])
    if not (group >= 0).any():
        raise FIMPError(
            "--subjects: the table names none of the recorded subjects "
            f"({listed([item.subject for item in items], 3)}); name them as the recordings do"
        )
    recording = task.windows.places.recording.repeat(task.regions)
    return Units(groups, group[recording], codes[recording], int(codes.max()) + 1, "subjects")


def read_column(path: Path, column: str, keys: Sequence[str], flag: str) -> dict[str, str]:
    """A column of a table of text, by the name that each row begins with.

    Parameters
    ----------
    path
        A .csv or .tsv file with a line of titles.
    column
        Title of the column.
    keys
        Titles that the column of names may have.
    flag
        The option that names the file, for messages.

    Raises
    ------
    FIMPError
        If the file cannot be read, lacks a column, or names a row twice.
    """
    try:
        head, *rows = read_table(path)
    except (OSError, ValueError, csv.Error) as error:
        what = getattr(error, "strerror", None) or type(error).__name__
        raise FIMPError(f"{flag}: {path} cannot be read as a table ({what}); give a .csv or .tsv file") from error
    titles = [title.strip() for title in head]
    key = next((title for title in titles if title.lower() in keys), None)
    if key is None or column not in titles:
        wanted = repr(keys[0]) if key is None else repr(column)
        raise FIMPError(f"{flag}: {path} has no column {wanted}, found {listed(titles)}; name the column so")
    found: dict[str, str] = {}
    for row in rows:
        name = row[titles.index(key)].strip()
        if name in found:
            raise FIMPError(f"{flag}: {path} has two rows for {name!r}, wanted one; remove one of them")
        found[name] = row[titles.index(column)].strip()
    return found
