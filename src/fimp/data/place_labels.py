"""Columns of tables of images: labels as classes, and names as codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimp.data.columns import Coded, encode, listed
from fimp.data.countries import NOTE, countries
from fimp.data.labels import as_known
from fimp.data.place_files import PlaceTable, column_named
from fimp.errors import FIMPError

if TYPE_CHECKING:
    import pandas as pd

#: Fewest labelled images of which 70/10/20 leaves no part empty.
FEWEST = 10


@dataclass(frozen=True)
class PlaceReference:
    """What a trained model fixes about the images it reads.

    Attributes
    ----------
    class_names
        Names of its classes.
    """

    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        # A stored reference gives lists back.
        object.__setattr__(self, "class_names", tuple(self.class_names))


class Lookup(NamedTuple):
    """Labels that coordinates tell.

    Attributes
    ----------
    names
        Takes latitude and longitude in degrees ``[N]`` each, gives N names.
    note
        What a user should know of them.
    """

    names: Callable[[NDArray[np.float64], NDArray[np.float64]], list[str]]
    note: str


#: Labels that are looked up where the table has no such column. Another one, such as a climate zone, is a line here.
LOOKUPS = {"country": Lookup(countries, NOTE)}


def new_labels(
    table: PlaceTable, column: str | None, keep: NDArray[np.int64], where: NDArray[np.float64]
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Classes of images to train on.

    Parameters
    ----------
    table
        The images.
    column
        Column with their labels, or one of :data:`LOOKUPS` where the table has no such column; None reads none.
    keep
        Rows that are used, N of them.
    where
        Latitude and longitude of these in degrees, ``[2, N]``.

    Returns
    -------
    tuple
        Codes ``[N]``, -1 = unlabelled, names of the classes, and notes.

    Raises
    ------
    FIMPError
        If there is no such column, or fewer than two classes or :data:`FEWEST` labels; or if what looks labels up is
        not installed.
    """
    notes = []
    if column in LOOKUPS and column_named(table.columns, (column,), table.name) is None:
        coded: Coded | None = encode(_values(LOOKUPS[column].names(*where)))
        notes.append(f"label {column!r} is no column and was looked up: {LOOKUPS[column].note}")
    else:
        coded = codes_of(table, column, "--label", keep)
    if coded is None:
        return np.full(len(keep), -1, dtype=np.int64), [], ["images are read without labels"]
    if len(coded.names) < 2:
        what = f"label {column!r}, looked up," if notes else f"column {column!r}"
        raise FIMPError(
            f"{table.name}: {what} has the one class {coded.names[0]!r}, wanted at least 2; add labels, or "
            "name another column by --label"
        )
    labelled = len(coded.codes) - coded.missing
    if labelled < FEWEST:
        raise FIMPError(
            f"{table.name}: column {column!r} labels {labelled} images, wanted at least {FEWEST} for a 70/10/20 split; "
            "label more"
        )
    return coded.codes, coded.names, [*notes, *_label_notes(coded)]


def known_labels(
    table: PlaceTable, column: str | None, keep: NDArray[np.int64], reference: PlaceReference
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Labels of images for a trained model, as far as there are any; see :func:`new_labels`."""
    names = list(reference.class_names)
    if column is None or not has_values(table, column, keep):
        return np.full(len(keep), -1, dtype=np.int64), names, ["no labels here: all images are unlabelled"]
    coded = encode(_values([_column(table, column, "--label")[row] for row in keep]))
    codes, notes = as_known(coded, names, "images")
    return codes, names, notes


def has_values(table: PlaceTable, column: str, keep: NDArray[np.int64]) -> bool:
    """Whether there is such a column with anything in the rows that are used."""
    found = column_named(table.columns, (column,), table.name)
    return found is not None and any(table.columns[found][row] for row in keep)


def _column(table: PlaceTable, column: str, option: str) -> list[str]:
    found = column_named(table.columns, (column,), table.name)
    if found is None:
        raise FIMPError(
            f"{table.name}: no column {column!r} among {listed(table.columns) or 'none'}; name another by {option}"
        )
    return table.columns[found]


def codes_of(table: PlaceTable, column: str | None, option: str, keep: NDArray[np.int64]) -> Coded | None:
    """A column as codes of its values, in rows that are used; None where none is asked for.

    Raises
    ------
    FIMPError
        If there is no such column, or it is empty; ``option`` is what names it.
    """
    if column is None:
        return None
    cells = _column(table, column, option)
    coded = encode(_values([cells[row] for row in keep]))
    if not coded.names:
        raise FIMPError(f"{table.name}: column {column!r} is empty; fill it, or name another by {option}")
    return coded


def _values(cells: list[str]) -> pd.Series:
    """Whole numbers as numbers, so that class 10 comes after class 9; None where a cell is empty."""
    import pandas as pd

    whole = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", cell) for cell in cells if cell)
    return pd.Series([int(cell) if whole and cell else cell or None for cell in cells], dtype=object)


def _label_notes(coded: Coded) -> list[str]:
    count = np.bincount(coded.codes[coded.codes >= 0])
    share = count.max() / count.sum()
    notes = [f"{len(coded.names)} classes ({listed(coded.names, 5)}), the largest {share:.0%} of labelled images"]
    if coded.missing:
        notes.append(f"{coded.missing:,} images have no label: they send messages and are not scored")
    return notes
