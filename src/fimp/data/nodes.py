"""Graphs with classes of nodes: a file, a dataset of PyG or a ``Data`` becomes a checked graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch_geometric.data import Data

from fimp.data.cells import to_torch
from fimp.data.node_checks import MASKS, check_edges, check_features, check_labels, check_masks
from fimp.data.node_files import NodeArrays, from_data, read_node_file
from fimp.data.pyg import PYG_DATASETS, canonical_name, load_pyg
from fimp.errors import FIMPError

#: Fewest labelled nodes of which 70/10/20 leaves no part empty.
_FEWEST = 10


@dataclass(frozen=True)
class NodeOptions:
    """How a graph is read.

    Attributes
    ----------
    undirected
        Add the reverse of every edge where it is missing.
    """

    undirected: bool = False


@dataclass(frozen=True)
class NodeReference:
    """What a trained model fixes about the graphs it reads.

    Attributes
    ----------
    features, classes
        How many it knows.
    """

    features: int
    classes: int


def read_nodes(
    source: str | Path | Data, options: NodeOptions = NodeOptions(), reference: NodeReference | None = None
) -> Data:
    """Read a graph whose nodes have features and classes.

    Parameters
    ----------
    source
        Path of an .npz file (:func:`fimp.data.node_files.read_node_file`), the name of a dataset of PyG
        (:data:`fimp.data.pyg.PYG_DATASETS`), or a ``torch_geometric.data.Data`` with ``x``, ``edge_index`` and ``y``.
    options
        How to read it.
    reference
        What a trained model fixes (``data.reference`` of what it was trained on): then features are its features,
        labels need not be there, and masks are of no effect.

    Returns
    -------
    Data
        With

        - ``x``: features ``[N, F]`` float32, sparse CSR or dense as they came
        - ``edge_index``: ``[2, E]``, source in row 0; self-loops and repeated edges are kept
        - ``y``: classes ``[N]`` int64, -1 = unlabelled
        - ``train_mask``, ``val_mask``, ``test_mask``: ``[splits, N]`` bool; absent where no split is published
        - ``reference``: what a model trained on it needs to read other graphs
        - ``num_classes``, ``name``, ``notes``: C, a name, and remarks for the user

    Raises
    ------
    FIMPError
        For anything that cannot be used.

    Examples
    --------
    >>> import torch
    >>> from torch_geometric.data import Data
    >>> ring = torch.stack([torch.arange(12), torch.arange(12).roll(1)])
    >>> data = read_nodes(Data(x=torch.eye(12), edge_index=ring, y=torch.arange(12) % 3), NodeOptions(undirected=True))
    >>> data.num_classes, data.edge_index.shape
    (3, torch.Size([2, 24]))
    """
    if isinstance(source, Data):
        return _checked(from_data(source, "Data", labels=reference is None), options, "Data", reference)
    path = Path(source)
    try:
        found = path.exists()
    except OSError as error:
        raise FIMPError(f"{source}: cannot be opened ({error.strerror}); pass another path") from error
    if not found:
        name = canonical_name(str(source))
        if name is None:
            raise FIMPError(f"{source}: no such file; pass an .npz file or one of {', '.join(PYG_DATASETS)}")
        return _checked(from_data(load_pyg(name), name), options, name, reference)
    return _checked(read_node_file(path, labels=reference is None), options, str(path), reference)


def _checked(found: NodeArrays, options: NodeOptions, name: str, reference: NodeReference | None) -> Data:
    keys = found.keys
    x = check_features(found.x, f"{name}: {keys['x']}")
    count = x.shape[0]
    edges = check_edges(found.edge_index, count, f"{name}: {keys['edge_index']}")
    if reference is None:
        y, masks, notes = _new(found, edges, count, name)
        reference = NodeReference(x.shape[1], int(y.max()) + 1)
    else:
        if x.shape[1] != reference.features:
            raise FIMPError(
                f"{name}: {keys['x']} has {x.shape[1]:,} features, but the model was trained on "
                f"{reference.features:,}; give it the same ones in the same order"
            )
        y, masks = check_labels(found.y, count, f"{name}: {keys['y']}", reference.classes), {}
        notes = [f"{int((y < 0).sum()):,} nodes have no label that the model knows"] if (y < 0).any() else []
    if found.one_way or options.undirected:
        edges = _both_ways(edges, count)
    notes += [*_edge_notes(edges, count), *_feature_notes(x)]
    return Data(
        x=torch.from_numpy(x) if isinstance(x, np.ndarray) else to_torch(x),
        edge_index=torch.from_numpy(edges),
        y=torch.from_numpy(y),
        num_nodes=count,
        num_classes=reference.classes,
        reference=reference,
        name=name,
        notes=notes,
        **{key: torch.from_numpy(mask) for key, mask in masks.items()},
    )


def _new(
    found: NodeArrays, edges: NDArray[np.int64], count: int, name: str
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.bool_]], list[str]]:
    """Labels and masks of a graph to train on, and notes."""
    y = check_labels(found.y, count, f"{name}: {found.keys['y']}")
    masks = check_masks(found.masks, y, name, found.keys)
    if not masks and (y >= 0).sum() < _FEWEST:
        raise FIMPError(
            f"{name}: {(y >= 0).sum()} labelled nodes are too few for a 70/10/20 split; "
            f"wanted at least {_FEWEST}, or train, val and test masks"
        )
    return y, masks, [*_label_notes(edges, y), _split_note(masks)]


def _both_ways(edges: NDArray[np.int64], num_nodes: int) -> NDArray[np.int64]:
    """Edges followed by the reverse ones that are missing."""
    missing = np.setdiff1d(edges[1] * num_nodes + edges[0], edges[0] * num_nodes + edges[1])
    return np.concatenate([edges, np.stack([missing // num_nodes, missing % num_nodes])], axis=1)


def homophily(edge_index: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """Share of edges between labelled nodes of which both have one class; self-loops do not count. NaN for none."""
    source, target = edge_index
    counted = (source != target) & (y[source] >= 0) & (y[target] >= 0)
    return float((y[source] == y[target])[counted].mean()) if counted.any() else float("nan")


def _label_notes(edges: NDArray[np.int64], y: NDArray[np.int64]) -> list[str]:
    count = np.bincount(y[y >= 0])
    of_edges = f"{homophily(edges, y):.2f} of edges join one class (edge homophily)" if edges.size else "no edges"
    notes = [f"{len(count)} classes, the largest {count.max() / count.sum():.0%} of labelled nodes; {of_edges}"]
    if (y < 0).any():
        notes.append(f"{int((y < 0).sum()):,} nodes have no label: they send messages and are not scored")
    if (count == 0).any():
        notes.append(f"class {int(np.flatnonzero(count == 0)[0])} has no node; classes count from 0")
    return notes


def _edge_notes(edges: NDArray[np.int64], num_nodes: int) -> list[str]:
    notes = []
    if loops := int((edges[0] == edges[1]).sum()):
        notes.append(f"{loops:,} self-loops are kept: these nodes are their own neighbours")
    code = edges[0] * num_nodes + edges[1]
    unique = np.unique(code)
    if repeated := len(code) - len(unique):
        notes.append(f"{repeated:,} edges are repeated and kept: they count as often as they stand")
    reverse = (unique % num_nodes) * num_nodes + unique // num_nodes
    if one_way := int((~np.isin(reverse, unique)).sum()):
        notes.append(f"{one_way:,} edges go one way and are used so; --undirected adds their reverse")
    return notes


def _feature_notes(x: NDArray[np.float32] | sparse.csr_matrix) -> list[str]:
    nonzero = np.count_nonzero(x, axis=1) if isinstance(x, np.ndarray) else np.diff(x.indptr)
    bare = int((nonzero == 0).sum())
    notes = [f"{nonzero.mean():.1f} of {x.shape[1]:,} features are not zero in a node on average"]
    return [*notes, f"{bare:,} nodes have no feature that is not zero"] if bare else notes


def _split_note(masks: dict[str, NDArray[np.bool_]]) -> str:
    if not masks:
        return "no masks: split at random, 70/10/20, anew for every seed"
    sizes = "/".join(f"{int(masks[name][0].sum()):,}" for name in MASKS)
    count = len(masks[MASKS[0]])
    if count == 1:
        return f"one published split ({sizes} nodes), the same for every seed"
    return f"{count} published splits ({sizes} nodes in the first): seed k uses split k mod {count}"
