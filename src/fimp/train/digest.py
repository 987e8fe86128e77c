"""What tells the data of a run from others: no run goes on, or is judged, on data that it was not trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.cell_graph import CellGraph, to_scipy
from fimp.data.disk_matrix import DiskMatrix, Values, row_blocks

#: What stands for the content of a named dataset, which comes with the library or is checked when it is downloaded.
_DATASET = "dataset"
#: Attributes of graphs that come from files as they are there; any may be missing. Others follow from these and from
#: options: what an edge or a coordinate is after rounding may differ on another machine, and says nothing of the data.
_CONTENT = (
    "gene_names",
    "scale",
    "target_total",
    "section",
    "held_out",
    "y",
    "classes",
    "class_names",
    "latitude",
    "longitude",
    "groups",
    "places",
    "train_mask",
    "val_mask",
    "test_mask",
)
#: Counts are told apart up to here; totals of cells tell apart what is beyond.
_MOST_COUNTS = 2**16


def digest(source: str | list[str] | None, data: Data) -> str | None:
    """What tells the content of data from that of others, whatever their files are called and wherever they are.

    It is of what decides numbers alone. A column that nobody reads, another compression or another kind of file does
    not change it, nor does the machine.

    Parameters
    ----------
    source
        What was read.
    data
        The graph that came out.

    Returns
    -------
    str or None
        None for data that were handed over in memory, which a run folder holds itself.
    """
    if source is None:
        return None
    if not any(Path(name).expanduser().exists() for name in ([source] if isinstance(source, str) else source)):
        return _DATASET
    out = hashlib.sha256()
    for name, value in _content(data):
        out.update(f"\n{name} ".encode())
        for part in _bytes_of(value, data.get("scale")):
            out.update(part)
    return out.hexdigest()


def _content(data: Data) -> Iterator[tuple[str, Any]]:
    """What decides numbers, by name."""
    for name in _CONTENT:
        if data.get(name) is not None:
            yield name, data[name]
    if "x" in data:
        yield "x", data.x
        # Only the remarks say whether edges of cells are the file's own; those of other graphs with features are.
        if not isinstance(data, CellGraph) or any(note.startswith("graph: obsp") for note in data.notes):
            yield "edge_index", data.edge_index
    if isinstance(data, CellGraph) and data.get("pos") is not None:
        yield "pos", data.pos
    for path in data.get("paths") or ():
        yield "image", path
    if "recordings" in data:
        regions = data.recordings.regions
        yield "regions", [regions.xyz, regions.names, regions.networks]
        for item in data.recordings.recordings:
            yield "recording", [item.signal, item.subject, item.tr, item.structural]


def _bytes_of(value: Any, scale: Tensor | None) -> Iterator[bytes]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _bytes_of(one, scale)
    elif isinstance(value, Path):
        with value.open("rb") as file:
            yield hashlib.file_digest(file, "sha256").digest()
    elif isinstance(value, DiskMatrix):
        yield from _rows_of(value, scale)
    elif isinstance(value, Tensor) and not value.is_sparse_csr:
        yield from _bytes_of(value.numpy(), scale)
    elif isinstance(value, Tensor):
        yield from _rows_of(to_scipy(value), scale)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} ".encode()
        yield value.tobytes()
    else:
        text = str(value)
        yield f"{len(text)} {text} ".encode()


def _rows_of(values: Values, scale: Tensor | None) -> Iterator[bytes]:
    """Sparse rows, in memory or on disk; of cells with a factor the counts, as logarithms are rounded in many ways."""
    yield f"{values.shape} ".encode()
    for rows, block in row_blocks(values):
        lengths = np.diff(block.indptr).astype(np.int64)
        stored: NDArray[Any] = block.data
        if scale is not None:
            counts = np.expm1(stored.astype(np.float64)) / np.repeat(scale.numpy()[rows], lengths)
            stored = np.rint(np.minimum(counts, _MOST_COUNTS)).astype(np.int32)
        for part in (lengths, block.indices.astype(np.int32), stored):
            yield part.tobytes()
