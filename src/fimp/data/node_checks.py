"""Arrays of a graph with classes of nodes, checked: an error says what was found and what to do."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.errors import FIMPError

#: Names of the masks; masks of several splits lie below each other.
MASKS = ("train_mask", "val_mask", "test_mask")


def check_features(x: NDArray | sparse.csr_matrix, where: str) -> NDArray[np.float32] | sparse.csr_matrix:
    """Features ``[N, F]`` as finite float32; without stored zeros where sparse.

    Raises
    ------
    FIMPError
        If they have another shape, are not real numbers, not finite, or all zero.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise FIMPError(f"{where} has shape {list(x.shape)}, wanted [nodes, features]; give every node a row")
    stored = x if isinstance(x, np.ndarray) else x.data
    if stored.dtype.kind not in "biuf":
        raise FIMPError(f"{where} has dtype {stored.dtype}, wanted numbers; encode its values as numbers")
    with warnings.catch_warnings():
        # What overflows is reported below.
        warnings.simplefilter("ignore", RuntimeWarning)
        stored = stored.astype(np.float32)
    if bad := int((~np.isfinite(stored)).sum()):
        raise FIMPError(f"{where} has {bad} values that are NaN, infinite or beyond float32; replace them, with 0 say")
    if not np.any(stored):
        raise FIMPError(f"{where}: every value is zero; give features, such as the one-hot degree of each node")
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(stored)
    out = sparse.csr_matrix((stored, x.indices.copy(), x.indptr.copy()), shape=x.shape)
    out.sum_duplicates()
    out.eliminate_zeros()
    return out


def check_csr(data: NDArray, indices: NDArray, indptr: NDArray, shape: NDArray, where: str) -> sparse.csr_matrix:
    """A CSR matrix from its parts.

    Raises
    ------
    FIMPError
        If they contradict each other.
    """
    remedy = "save the parts of one scipy.sparse.csr_matrix"
    for name, part in (("indices", indices), ("indptr", indptr), ("shape", shape)):
        if part.ndim != 1 or part.dtype.kind not in "iu":
            raise FIMPError(f"{where}_{name} is {part.dtype} {list(part.shape)}, wanted a list of integers; {remedy}")
    if len(shape) != 2 or (shape < 0).any():
        raise FIMPError(f"{where}_shape is {shape.tolist()[:4]}, wanted [nodes, features]; {remedy}")
    rows, columns = (int(size) for size in shape)
    if len(indptr) != rows + 1:
        raise FIMPError(f"{where}_indptr has {len(indptr)} entries, wanted {rows + 1} (one more than nodes); {remedy}")
    if data.shape != indices.shape:
        raise FIMPError(f"{where}_data has shape {list(data.shape)}, {where}_indices {list(indices.shape)}; {remedy}")
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr.astype(np.int64)) < 0).any():
        raise FIMPError(f"{where}_indptr does not rise from 0 to {len(indices)} (entries of {where}_indices); {remedy}")
    if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < columns):
        raise FIMPError(f"{where}_indices run {indices.min()}..{indices.max()}, wanted 0..{columns - 1}; {remedy}")
    return sparse.csr_matrix((data, indices.astype(np.int64), indptr.astype(np.int64)), shape=(rows, columns))


def check_edges(edge_index: NDArray, num_nodes: int, where: str) -> NDArray[np.int64]:
    """Edges ``[2, E]`` between existing nodes.

    Raises
    ------
    FIMPError
        If they have another shape, are no integers, or name nodes that there are not.
    """
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        remedy = "transpose it" if edge_index.ndim == 2 and edge_index.shape[1] == 2 else "one column per edge"
        raise FIMPError(f"{where} has shape {list(edge_index.shape)}, wanted [2, edges]; {remedy}")
    if edge_index.dtype.kind not in "iu":
        raise FIMPError(f"{where} has dtype {edge_index.dtype}, wanted integers; use edge_index.astype('int64')")
    if edge_index.size and not (int(edge_index.min()) >= 0 and int(edge_index.max()) < num_nodes):
        found = f"{edge_index.min()}..{edge_index.max()}"
        raise FIMPError(f"{where} names nodes {found}, wanted 0..{num_nodes - 1}; count nodes from 0, one per row of x")
    return edge_index.astype(np.int64)


def check_labels(y: NDArray, num_nodes: int, where: str, classes: int | None = None) -> NDArray[np.int64]:
    """Classes ``[N]``, -1 = unlabelled.

    With the number of ``classes`` of a trained model, nodes of others are unlabelled, and all may be.

    Raises
    ------
    FIMPError
        If there is not one integer per node, one is below -1, they do not count classes from 0, or there is one
        class only.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (num_nodes,):
        raise FIMPError(f"{where} has shape {list(y.shape)}, wanted [{num_nodes}]: one class for each row of x")
    if y.dtype.kind not in "iub":
        raise FIMPError(f"{where} has dtype {y.dtype}, wanted integer classes 0, 1, ...; use y.astype('int64')")
    y = y.astype(np.int64)
    if y.min() < -1:
        raise FIMPError(f"{where} has the class {y.min()}, wanted 0, 1, ... or -1 for no label; mark these nodes by -1")
    if classes is not None:
        return np.where(y < classes, y, -1)
    found = np.unique(y[y >= 0])
    if len(found) < 2:
        raise FIMPError(f"{where} has {len(found)} class(es) among labelled nodes, wanted at least 2; add labels")
    if found[-1] >= num_nodes:
        raise FIMPError(
            f"{where} has the class {found[-1]} for {num_nodes} nodes, wanted 0, 1, ...; "
            "number them with np.unique(y, return_inverse=True)"
        )
    return y


def check_masks(
    masks: dict[str, NDArray], y: NDArray[np.int64], where: str, keys: dict[str, str]
) -> dict[str, NDArray[np.bool_]]:
    """Masks of all splits, each ``[splits, N]``; empty where there are none. A single mask holds for all splits.

    Parameters
    ----------
    masks
        By their names in :data:`MASKS`, as ``[N]``, ``[splits, N]`` or, as PyG has them, ``[N, splits]``.
    y
        Classes.
    where
        File, for messages.
    keys
        What the masks are called there.

    Raises
    ------
    FIMPError
        If one is missing while others are there, shapes differ, parts overlap, are empty or hold unlabelled nodes.
    """
    if not masks:
        return {}
    if missing := [keys[name] for name in MASKS if name not in masks]:
        raise FIMPError(f"{where}: {missing[0]} is missing; give train, val and test masks, or none of them")
    out = {name: _as_mask(masks[name], len(y), f"{where}: {keys[name]}") for name in MASKS}
    splits = max(len(mask) for mask in out.values())
    if any(len(mask) not in (1, splits) for mask in out.values()):
        found = ", ".join(f"{keys[name]} {len(mask)}" for name, mask in out.items())
        raise FIMPError(f"{where}: masks have different numbers of splits ({found}); give each as many, or one")
    out = {name: mask if len(mask) == splits else mask.repeat(splits, axis=0) for name, mask in out.items()}
    for name, mask in out.items():
        if (empty := np.flatnonzero(~mask.any(1))).size:
            raise FIMPError(f"{where}: {keys[name]} of split {empty[0]} selects no node; every part needs nodes")
        if (bad := np.flatnonzero((mask & (y < 0)).any(0))).size:
            raise FIMPError(
                f"{where}: {keys[name]} selects {bad.size} nodes without a label (first: {bad[0]}); unselect them"
            )
    for a, b in ((0, 1), (0, 2), (1, 2)):
        if both := int((out[MASKS[a]] & out[MASKS[b]]).any(0).sum()):
            raise FIMPError(
                f"{where}: {keys[MASKS[a]]} and {keys[MASKS[b]]} share {both} nodes; a node can be in one part only"
            )
    return out


def _as_mask(mask: NDArray, num_nodes: int, where: str) -> NDArray[np.bool_]:
    mask = mask[None] if mask.ndim == 1 else mask
    if mask.ndim == 2 and mask.shape[1] != num_nodes and mask.shape[0] == num_nodes:
        mask = mask.T
    if mask.ndim != 2 or mask.shape[1] != num_nodes or len(mask) == 0:
        raise FIMPError(
            f"{where} has shape {list(mask.shape)}, wanted [{num_nodes}] or [splits, {num_nodes}]; "
            "turn node numbers into a mask"
        )
    if mask.dtype.kind != "b" and not (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all()):
        raise FIMPError(f"{where} is {mask.dtype} with other values than 0 and 1, wanted bool; use mask.astype(bool)")
    return np.ascontiguousarray(mask.astype(bool))
