"""A graph of cells as a tree of tensors and plain values, for a run folder whose data had no file."""

from __future__ import annotations

from typing import Any

from scipy import sparse

from fimp.data.cell_graph import CellGraph, to_torch
from fimp.data.disk_matrix import DiskMatrix
from fimp.errors import FIMPError

#: Attributes of a graph besides its values; any may be None.
_ATTRIBUTES = (
    "scale",
    "target_total",
    "share",
    "edge_index",
    "pos",
    "section",
    "section_names",
    "held_out",
    "y",
    "classes",
    "cell_index",
    "gene_names",
    "name",
    "notes",
)


def pack(data: CellGraph) -> dict[str, Any]:
    """Everything in a graph as nested dicts, lists, numbers, strings and tensors.

    Raises
    ------
    FIMPError
        If its values are on disk, which have to be read from their own file again.
    """
    x = data.x
    if isinstance(x, DiskMatrix):
        raise FIMPError(
            f"{data.name}: its values do not fit memory and cannot be stored with the model; "
            "make the model from the path of their file"
        )
    parts = {"crow": x.crow_indices(), "col": x.col_indices(), "values": x.values(), "shape": list(x.shape)}
    return {"x": parts, **{key: data.get(key) for key in _ATTRIBUTES}}


def unpack(stored: dict[str, Any], name: str = "stored data") -> CellGraph:
    """The graph that :func:`pack` took apart; ``name`` is what messages call it, its file for instance.

    Raises
    ------
    FIMPError
        If parts are missing or do not fit together.
    """
    try:
        parts = stored["x"]
        triple = tuple(parts[name].numpy() for name in ("values", "col", "crow"))
        values = sparse.csr_matrix(triple, shape=tuple(parts["shape"]))
        values.check_format(full_check=True)
        rest = {key: stored[key] for key in _ATTRIBUTES}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FIMPError(f"{name}: not a graph of cells of this version ({error}); train and save again") from error
    return CellGraph(x=to_torch(values), num_nodes=values.shape[0], **rest)
