"""Columns of an AnnData's obs as codes and names, whatever their type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

if TYPE_CHECKING:
    import pandas as pd

#: What ``.astype(str)`` makes of missing values.
_MISSING = frozenset({"nan", "NaN", "None", "<NA>", "NaT"})


class Coded(NamedTuple):
    """A column of names.

    Attributes
    ----------
    codes
        Index into ``names`` for each cell, ``[N]`` int64; -1 where the value is missing.
    names
        The distinct values as text: in the order of the categories where the column is categorical, by size
        where it is numeric, alphabetical otherwise.
    kind
        ``categorical``, ``text``, ``integer`` (floats without decimals too) or ``measure`` (floats).
    """

    codes: NDArray[np.int64]
    names: list[str]
    kind: str

    def take(self, rows: NDArray[np.int64]) -> Coded:
        """The column of some cells."""
        return self._replace(codes=self.codes[rows])

    def used(self) -> Coded:
        """Without names that no cell has, their order kept."""
        present = np.unique(self.codes[self.codes >= 0])
        position = np.full(len(self.names) + 1, -1, dtype=np.int64)
        position[present] = np.arange(len(present))
        # Code -1 reads the last place, which stays -1.
        return Coded(position[self.codes], [self.names[code] for code in present], self.kind)

    @property
    def missing(self) -> int:
        """Number of cells without a value."""
        return int((self.codes < 0).sum())


def obs_column(obs: pd.DataFrame, column: str, name: str) -> pd.Series:
    """A column of obs.

    Raises
    ------
    FIMPError
        If several columns have this name.
    """
    found = obs[column]
    if found.ndim != 1:
        raise FIMPError(f"{name}: obs has {found.shape[1]} columns named {column!r}; rename all but one")
    return found


def encode(column: pd.Series) -> Coded:
    """Codes and names of a column of any type.

    None, NaN, NA and empty text are missing values, and so is what these become as text (``"nan"`` and the like).
    """
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = np.asarray(column.cat.codes, dtype=np.int64)
        return _merged(codes, _texts(column.cat.categories), "categorical")
    try:
        codes, distinct = pd.factorize(column)
    except TypeError:  # lists and the like, which a column in memory can hold
        codes, distinct = pd.factorize(column.map(str))
    values = list(distinct)
    kind = _kind(values)
    names = _texts(values)
    order = sorted(range(len(values)), key=names.__getitem__ if kind == "text" else values.__getitem__)
    rank = np.full(len(values) + 1, -1, dtype=np.int64)
    rank[order] = np.arange(len(values))
    return _merged(rank[codes], [names[index] for index in order], kind)


def missing_texts(column: pd.Series) -> int:
    """Number of cells of a column whose value is missing and was made text, such as ``"nan"``."""
    values = column.astype(object)
    return sum(isinstance(value, (str, bytes)) and _text(value) in _MISSING for value in values)


def join_columns(columns: Sequence[Coded]) -> Coded:
    """Columns of several files, one below the other; equal names mean the same.

    Names keep their order where all files give the same, or all are categorical (names that a later file
    adds come last); otherwise they are sorted.
    """
    names = list(dict.fromkeys(name for column in columns for name in column.names))
    kind = columns[0].kind if len({column.kind for column in columns}) == 1 else "text"
    if kind in ("integer", "measure"):
        names.sort(key=float)
    elif kind == "text":
        names.sort()
    position = {name: code for code, name in enumerate(names)}
    codes = [np.array([*(position[name] for name in column.names), -1])[column.codes] for column in columns]
    return Coded(np.concatenate(codes).astype(np.int64), names, kind)


def listed(names: Iterable[Any], most: int = 10) -> str:
    """Names for a message: the first few, and how many more there are."""
    shown = [str(name) for name in names]
    more = f", and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def _kind(values: list[Any]) -> str:
    numbers = [value for value in values if isinstance(value, (int, float, np.number)) and not isinstance(value, bool)]
    if len(numbers) < len(values) or not values:
        return "text"
    return "integer" if all(float(value).is_integer() for value in numbers) else "measure"


def _texts(values: Iterable[Any]) -> list[str]:
    values = list(values)
    whole = _kind(values) == "integer"
    return [str(int(value)) if whole else _text(value) for value in values]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value).strip()


def _merged(codes: NDArray[np.int64], names: list[str], kind: str) -> Coded:
    """One code per name (1 and "1" are the same), none for text that is empty or stands for a missing value."""
    kept = dict.fromkeys(name for name in names if name and name not in _MISSING)
    position = {name: code for code, name in enumerate(kept)}
    translate = np.array([*(position.get(name, -1) for name in names), -1], dtype=np.int64)
    return Coded(translate[codes], list(position), kind)
