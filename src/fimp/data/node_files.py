"""Files of graphs with classes of nodes: NumPy archives, never pickles."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.node_checks import MASKS, check_csr
from fimp.errors import FIMPError

#: Names of arrays in the archives of Platonov et al. (arXiv 2302.11640), which hold each edge once, as a row.
_HETEROPHILOUS = {
    "x": "node_features",
    "y": "node_labels",
    "edge_index": "edges",
    "train_mask": "train_masks",
    "val_mask": "val_masks",
    "test_mask": "test_masks",
}
_CSR = ("x_data", "x_indices", "x_indptr", "x_shape")


@dataclass(frozen=True)
class NodeArrays:
    """A graph as it was found, unchecked.

    Attributes
    ----------
    x
        Features ``[N, F]``.
    edge_index, y
        Edges and classes.
    masks
        Those that are there, by name.
    keys
        What arrays are called where they come from.
    one_way
        Whether edges are stored in one direction and meant in both.
    """

    x: NDArray | sparse.csr_matrix
    edge_index: NDArray
    y: NDArray
    masks: dict[str, NDArray]
    keys: dict[str, str] = field(default_factory=lambda: {name: name for name in ("x", "edge_index", "y", *MASKS)})
    one_way: bool = False


def read_node_file(path: Path, labels: bool = True) -> NodeArrays:
    """Read an archive that :func:`write_nodes` wrote, or one of the original heterophilous graphs.

    Parameters
    ----------
    path
        An .npz file with ``edge_index [2, E]``, ``x [N, F]`` (or ``x_data``, ``x_indices``, ``x_indptr``
        and ``x_shape`` of a CSR matrix), ``y [N]`` and, if there are published splits, ``train_mask``, ``val_mask``
        and ``test_mask`` ``[N]`` or ``[splits, N]``.
    labels
        Whether ``y`` must be there; otherwise nodes are unlabelled where it is not.

    Raises
    ------
    FIMPError
        If it cannot be read, holds Python objects or lacks an array.
    """
    arrays = _load(path)
    if "node_features" in arrays or "node_labels" in arrays:
        keys = _HETEROPHILOUS
        _require(arrays, [keys["x"], keys["edge_index"], *([keys["y"]] if labels else [])], path)
        edges = arrays["edges"]
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise FIMPError(f"{path}: edges has shape {list(edges.shape)}, wanted [edges, 2]; one row per edge")
        found = {name: arrays[keys[name]] for name in MASKS if keys[name] in arrays}
        y = arrays.get(keys["y"], _unlabelled(arrays[keys["x"]]))
        return NodeArrays(arrays[keys["x"]], edges.T, y, found, keys, one_way=True)
    _require(arrays, ["edge_index", *(["y"] if labels else [])], path)
    if any(name in arrays for name in _CSR):
        _require(arrays, list(_CSR), path)
        data, indices, indptr, shape = (arrays[name] for name in _CSR)
        x: NDArray | sparse.csr_matrix = check_csr(data, indices, indptr, shape, f"{path}: x")
    else:
        _require(arrays, ["x"], path)
        x = arrays["x"]
    found = {name: arrays[name] for name in MASKS if name in arrays}
    return NodeArrays(x, arrays["edge_index"], arrays.get("y", _unlabelled(x)), found)


def write_nodes(path: str | Path, data: Data) -> None:
    """Write a graph so that ``--data`` and :func:`read_nodes` take it.

    Parameters
    ----------
    path
        An .npz file.
    data
        With ``x`` (dense or sparse), ``edge_index``, ``y`` and, optionally, ``train_mask``, ``val_mask`` and
        ``test_mask``: tensors, or for the masks arrays or lists.

    Raises
    ------
    FIMPError
        As :func:`from_data`.
    """
    found = from_data(data, str(path))
    x = found.x
    arrays: dict[str, Any] = {"edge_index": found.edge_index, "y": found.y, **found.masks}
    if isinstance(x, np.ndarray):
        arrays["x"] = x
    else:
        arrays |= {"x_data": x.data, "x_indices": x.indices, "x_indptr": x.indptr, "x_shape": x.shape}
    with Path(path).open("wb") as stream:  # by its name alone numpy would append .npz to it
        np.savez_compressed(stream, **arrays)


def from_data(data: Data, name: str, labels: bool = True) -> NodeArrays:
    """Arrays of a ``torch_geometric.data.Data``; ``labels`` as for :func:`read_node_file`.

    Raises
    ------
    FIMPError
        If ``x``, ``edge_index`` or ``y`` is missing or no tensor, or what should be dense is not; or if a mask is
        neither a tensor nor an array nor a list.
    """
    for key in ("x", "edge_index", "y"):
        if data.get(key) is None:
            if key == "y" and not labels:
                continue
            raise FIMPError(f"{name}: {key} is missing; wanted a Data with x, edge_index and y")
        if not isinstance(data[key], Tensor):
            raise FIMPError(f"{name}: {key} is a {type(data[key]).__name__}, wanted a tensor; convert it")
    x = data.x.detach().cpu()
    x = x.float() if x.is_floating_point() else x
    if x.layout != torch.strided:
        coo = x.to_sparse_coo().coalesce()
        x = sparse.csr_matrix((coo.values().numpy(), coo.indices().numpy()), shape=tuple(x.shape))
    else:
        x = x.numpy()
    found = {key: _dense(data[key], f"{name}: {key}") for key in MASKS if data.get(key) is not None}
    y = _unlabelled(x) if data.get("y") is None else _dense(data.y, f"{name}: y")
    return NodeArrays(x, _dense(data.edge_index, f"{name}: edge_index"), y, found)


def _dense(value: Any, where: str) -> NDArray:
    """A tensor, an array or a list as an array, of float32 where NumPy lacks its kind of float."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise FIMPError(f"{where} is a tensor of layout {value.layout}, wanted a dense one; convert it")
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()
    if not isinstance(value, (np.ndarray, list)):
        raise FIMPError(f"{where} is a {type(value).__name__}, wanted a tensor, an array or a list; convert it")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FIMPError(f"{where} cannot be read as an array; give each node one bool for each split") from error


def _unlabelled(x: NDArray | sparse.csr_matrix) -> NDArray[np.int64]:
    return np.full(x.shape[:1], -1, dtype=np.int64)


def _load(path: Path) -> dict[str, NDArray]:
    try:
        if path.is_dir():
            raise FIMPError(f"{path}: is a directory; pass an .npz file")
        if path.suffix in (".pt", ".pth", ".pkl", ".pickle"):
            raise FIMPError(
                f"{path}: a pickle can run code and is not read; load it in Python and save it with "
                "fimp.data.write_nodes('graph.npz', data)"
            )
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise FIMPError(f"{path}: not an .npz archive, or truncated; write it with fimp.data.write_nodes")
        with np.load(path, allow_pickle=False) as archive:
            return {name: _array(archive, name, path) for name in archive.files}
    except OSError as error:
        raise FIMPError(f"{path}: cannot be opened ({error.strerror or error}); pass another path") from error
    except zipfile.BadZipFile as error:
        raise FIMPError(f"{path}: damaged ({error}); write or copy it again") from error


def _array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> NDArray:
    try:
        return np.asarray(archive[name])
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile, MemoryError, NotImplementedError) as error:
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise FIMPError(
                f"{path}: {name} holds Python objects, wanted numbers; save it as an array of numbers"
            ) from error
        raise FIMPError(f"{path}: {name} cannot be read ({type(error).__name__}); write or copy it again") from error


def _require(arrays: dict[str, NDArray], names: list[str], path: Path) -> None:
    for name in names:
        if name not in arrays:
            found = ", ".join(sorted(arrays)[:12]) or "nothing"
            raise FIMPError(
                f"{path}: no array {name!r}, found {found}; wanted edge_index, x (or {', '.join(_CSR)}) and y"
            )
