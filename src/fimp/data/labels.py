"""Labels of cells: a column of obs becomes classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fimp.data.columns import Coded, encode, listed, missing_texts, obs_column
from fimp.data.splits import FEWEST
from fimp.errors import FIMPError

if TYPE_CHECKING:
    import pandas as pd

#: More values than this are no label of a number, and no candidate.
_MOST_CLASSES = 200
#: More values than this are no label of a number with decimals.
_MOST_MEASURES = 20


def label_candidates(obs: pd.DataFrame) -> dict[str, int]:
    """Columns that look like labels, and how many values they have.

    These are categorical, text and bool columns with 2 to 200 values, and fewer values than half the cells.
    """
    found = {}
    for column in dict.fromkeys(obs.columns):
        if obs[column].ndim != 1:
            continue
        coded = encode(obs[column]).used()
        if coded.kind in ("categorical", "text") and 2 <= len(coded.names) <= min(_MOST_CLASSES, len(obs) / 2):
            found[str(column)] = len(coded.names)
    return found


def read_label(obs: pd.DataFrame, column: str, name: str) -> tuple[Coded, list[str]]:
    """The values of a label column, and notes.

    Raises
    ------
    FIMPError
        If there is no such column, or it holds measurements.
    """
    if column not in obs:
        candidates = label_candidates(obs)
        have = f"columns that look like labels: {listed(candidates)}" if candidates else "none looks like a label"
        raise FIMPError(f"{name}: no obs column {column!r} for --label; {have}")
    coded = encode(obs_column(obs, column, name))
    most = {"measure": _MOST_MEASURES, "integer": _MOST_CLASSES}.get(coded.kind)
    if most is not None and len(coded.names) > most:
        raise FIMPError(
            f"{name}: obs[{column!r}] holds numbers, {len(coded.names):,} different ones; that is no label: name a "
            "column of classes with --label, or cut it into classes (pandas.cut)"
        )
    if coded.missing and (count := missing_texts(obs[column])):
        return coded, [f"label: {count:,} cells have a missing value written as text in obs[{column!r}] (nan, None)"]
    return coded, []


def classes_of(coded: Coded, column: str, name: str) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Classes of the cells that are used.

    Parameters
    ----------
    coded
        Their label column.
    column, name
        Names of the column and of the data, for messages.

    Returns
    -------
    tuple
        Codes ``[N]`` (-1 = unlabelled), names of the classes that occur, and notes.

    Raises
    ------
    FIMPError
        If no cell is labelled or too few are, there is one class only, or more classes than half the labelled cells.
    """
    coded, count = coded.used(), len(coded.codes)
    labelled = count - coded.missing
    where = f"{name}: obs[{column!r}]"
    if not labelled:
        raise FIMPError(f"{where} is missing for all {count:,} cells; name another column with --label")
    if labelled < FEWEST:
        raise FIMPError(
            f"{name}: {labelled} of {count:,} cells have a value in obs[{column!r}], too few for a 70/10/20 split; "
            f"wanted at least {FEWEST}: label more cells, or name another column with --label"
        )
    cells = f"{labelled:,} labelled cells" if coded.missing else f"{count:,} cells"
    if len(coded.names) == 1:
        raise FIMPError(
            f"{where} has one class only ({coded.names[0]!r}) among {cells}; wanted at least two: name another column "
            "with --label"
        )
    if len(coded.names) > labelled / 2:
        raise FIMPError(
            f"{where} has {len(coded.names):,} classes for {cells}, like an identifier; wanted at most half as many "
            "classes as labelled cells: name another column with --label"
        )
    unlabelled = f", {coded.missing:,} cells unlabelled" if coded.missing else ""
    return coded.codes, coded.names, [f"label: obs[{column!r}], {len(coded.names)} classes{unlabelled}"]


def known_classes(
    coded: Coded | None, classes: Sequence[str], column: str | None, count: int
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels of new cells as classes of a trained model, by name.

    Parameters
    ----------
    coded
        The new cells' label column, or None where they have none.
    classes
        The model's classes.
    column
        Name of the column, for notes.
    count
        Number of cells.

    Returns
    -------
    tuple
        Codes ``[N]``, -1 where a cell has no label or one that the model does not know; and notes.
    """
    if coded is None:
        where = "none was named" if column is None else f"no obs[{column!r}] here"
        return np.full(count, -1, dtype=np.int64), [f"label: {where}; all cells are unlabelled"]
    return as_known(coded, classes, "cells")


def as_known(coded: Coded, classes: Sequence[str], what: str) -> tuple[NDArray[np.int64], list[str]]:
    """A column of labels as classes of a trained model, by name.

    Parameters
    ----------
    coded
        The column.
    classes
        The model's classes.
    what
        What the rows are, for the note.

    Returns
    -------
    tuple
        Codes ``[N]``, -1 where there is no label or one that the model does not know; and notes.
    """
    coded = coded.used()
    position = {name: code for code, name in enumerate(classes)}
    codes = np.array([*(position.get(name, -1) for name in coded.names), -1], dtype=np.int64)[coded.codes]
    unknown = [name for name in coded.names if name not in position]
    if not unknown:
        return codes, []
    rows = int(((codes < 0) & (coded.codes >= 0)).sum())
    return codes, [
        f"label: {rows:,} {what} have a class that the model does not know ({listed(unknown, 5)}); taken as unlabelled"
    ]
