"""Sections: pieces of tissue between which there are no neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fimp.data.columns import Coded, encode, listed, obs_column
from fimp.data.splits import FEWEST_SEEN, crop
from fimp.errors import FIMPError

if TYPE_CHECKING:
    import pandas as pd

#: Columns of obs that are taken as sections unless told otherwise; the first that fits.
RECOGNISED = ("section", "slice", "library_id", "batch")
#: What ``--section`` is where nothing in a file tells sections apart.
OFF = "none"


def read_sections(
    obs: pd.DataFrame, wanted: str | None, name: str, *, for_model: bool = False
) -> tuple[Coded | None, list[str]]:
    """The section of each cell of a file.

    Parameters
    ----------
    obs
        Table of the cells.
    wanted
        Name of a column, ``"none"``, or None for the first of :data:`RECOGNISED` that has at least two values and
        no more than half as many as there are cells (otherwise it numbers cells). In a recognised column values
        may be missing: such cells are in no section, code -1.
    name
        Name of the file in messages.
    for_model
        Whether the cells are new ones for a trained model; then a missing column means one section, and
        each cell may be a section of its own.

    Raises
    ------
    FIMPError
        If a named column does not exist, has missing values, or a value of its own for every cell.
    """
    if wanted == OFF:
        return None, []
    if wanted is None:
        return _recognised(obs, name)
    if wanted not in obs:
        if for_model:
            return None, [f"sections: no obs[{wanted!r}] here; all cells are one section"]
        have = f"it has {listed(obs.columns)}" if len(obs.columns) else "it has no columns"
        raise FIMPError(f"{name}: no obs column {wanted!r} for --section; {have}; use one of these, or --section none")
    coded = encode(obs_column(obs, wanted, name)).used()
    if coded.missing:
        raise FIMPError(
            f"{name}: {coded.missing:,} cells have no value in obs[{wanted!r}], wanted a section for every cell; fill "
            "them in, or remove these cells"
        )
    if len(coded.names) == len(obs) and not for_model:
        raise FIMPError(
            f"{name}: obs[{wanted!r}] has another value for each of {len(obs):,} cells; that is no section: name "
            "another column with --section"
        )
    return coded, [_note(wanted, coded)]


def _recognised(obs: pd.DataFrame, name: str) -> tuple[Coded | None, list[str]]:
    for column in RECOGNISED:
        if column not in obs:
            continue
        coded = encode(obs_column(obs, column, name)).used()
        if coded.kind == "measure" or not 2 <= len(coded.names) <= len(obs) / 2:
            continue
        notes = [_note(column, coded)]
        if coded.missing:
            notes.append(f"sections: {coded.missing:,} cells have no value in obs[{column!r}]: they get no neighbours")
        return coded, notes
    return None, []


def _note(column: str, coded: Coded) -> str:
    return f"sections: {len(coded.names)} in obs[{column!r}]; no edge crosses them (--section none: one section)"


def held_out_cells(section: Coded | None, wanted: tuple[str, ...], name: str) -> NDArray[np.bool_] | None:
    """Which cells are held out for testing ``[N]``, or None where no section is.

    Raises
    ------
    FIMPError
        If a section does not exist, or fewer than eight cells are left to learn from.
    """
    if not wanted:
        return None
    if section is None:
        raise FIMPError(
            f"{name}: --test-section {wanted[0]!r}, but there are no sections; name their column with --section, or "
            "pass several files"
        )
    for one in wanted:
        if one not in section.names:
            raise FIMPError(f"{name}: --test-section {one!r} does not exist; sections are {listed(section.names, 50)}")
    held = np.isin(section.codes, [section.names.index(one) for one in wanted])
    if (left := int((~held).sum())) < FEWEST_SEEN:
        raise FIMPError(
            f"{name}: --test-section leaves {left} cells to train and validate on, wanted at least {FEWEST_SEEN}; "
            "hold out fewer sections"
        )
    return held


def crop_sections(space: NDArray[np.floating], fraction: float, section: Coded | None) -> NDArray[np.int64]:
    """The same share of every section, each a contiguous piece around a random cell of it (sorted indices)."""
    if section is None:
        return crop(space, fraction)
    kept = []
    for code in np.unique(section.codes):
        rows = np.flatnonzero(section.codes == code)
        kept.append(rows[crop(space[rows], fraction)])
    return np.sort(np.concatenate(kept))
