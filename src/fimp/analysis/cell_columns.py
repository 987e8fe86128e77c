"""Columns of obs of the cells that a graph was made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fimp.data.cell_graph import CellGraph
from fimp.data.columns import Coded, encode, listed, obs_column
from fimp.data.labels import label_candidates
from fimp.data.reading import open_source
from fimp.errors import FIMPError

if TYPE_CHECKING:
    import pandas as pd

#: Columns that are taken as cell types unless told otherwise; the first that is there and looks like a label.
RECOGNISED = ("cell_type", "celltype", "CellType", "cell_types", "ClusterName", "cluster", "clusters", "leiden")


def read_obs(source: Any, data: CellGraph) -> pd.DataFrame:
    """Table of the cells of a graph, a row per node.

    Parameters
    ----------
    source
        What the graph was read from: an AnnData, the path of an .h5ad file, the name of a dataset, or a list of these.
    data
        The graph.

    Raises
    ------
    FIMPError
        If there is no source any more.
    """
    import pandas as pd

    if source is None:
        raise FIMPError("--data: the run keeps no table of its cells; give the AnnData that it was trained on")
    tables = []
    for one in source if isinstance(source, (list, tuple)) else [source]:
        with open_source(str(one) if isinstance(one, Path) else one) as (adata, _):
            tables.append(adata.obs.copy())
    table = pd.concat(tables, axis=0, ignore_index=True) if len(tables) > 1 else tables[0]
    return table.iloc[data.cell_index.numpy()]


def cell_types(obs: pd.DataFrame, wanted: str | None, name: str) -> tuple[str, Coded] | None:
    """The column of cell types, and its name.

    Parameters
    ----------
    obs
        Table of the cells.
    wanted
        Name of the column; by default the first of :data:`RECOGNISED`, or the only one that looks like a label.
    name
        Name of the data in messages.

    Returns
    -------
    tuple or None
        None where none was named and none is recognised.

    Raises
    ------
    FIMPError
        If there is no such column.
    """
    if wanted is not None:
        return wanted, named_column(obs, wanted, name, "--label")
    candidates = label_candidates(obs)
    known = [column for column in RECOGNISED if column in candidates]
    if not known and len(candidates) == 1:
        known = list(candidates)
    return (known[0], encode(obs_column(obs, known[0], name)).used()) if known else None


def named_column(obs: pd.DataFrame, column: str, name: str, flag: str) -> Coded:
    """A column by its name.

    Raises
    ------
    FIMPError
        If there is none.
    """
    if column not in obs:
        raise FIMPError(f"{name}: no obs column {column!r} for {flag}; there are {listed(obs.columns) or 'none'}")
    return encode(obs_column(obs, column, name)).used()
