"""Which images train, validate and test: published parts, whole groups, blocks of places, or at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data

from fimp.data.node_checks import MASKS
from fimp.data.splits import SHARES, block_split, random_split
from fimp.errors import FIMPError

_PARTS = ("train", "val", "test")
#: Fewest places of which cutting at 70/10/20 leaves no part empty.
_FEWEST = 10
#: Orders in which units are dealt before the best is taken: more are nearer to the shares, and differ less by seed.
_DRAWS = 16


def split_places(data: Data, seed: int) -> dict[str, NDArray[np.int64]]:
    """Labelled images of the parts ``train``, ``val`` and ``test``.

    A published split is taken as it is. Otherwise 70/10/20 of the labelled images: whole groups, where there are at
    least 3; blocks of neighbouring places, where there are fewer or only places are known, which a note says; and
    images at random where there is neither. Images of one place are always in one part.

    Parameters
    ----------
    data
        From :func:`fimp.data.read_places`; a note may be added to it.
    seed
        Seed of the split.

    Returns
    -------
    dict
        Ascending numbers of nodes by part; no node is in two.

    Raises
    ------
    FIMPError
        If there are fewer than 3 labelled images or places, so that a part would be empty.
    """
    if data.get("train_mask") is not None:
        return {part: np.flatnonzero(data[mask].numpy()) for part, mask in zip(_PARTS, MASKS, strict=True)}
    nodes = np.flatnonzero(data.y.numpy() >= 0)
    groups, places = _of(data, "groups", nodes), _of(data, "places", nodes)
    if groups is None and places is None:
        units = np.arange(len(nodes))
        _check(len(nodes), data.name, "labelled images")
        parts = random_split(len(nodes), seed) if len(nodes) >= _FEWEST else _deal(units, seed)
    else:
        units = _units(places, groups)
        if groups is None or units.max() < 2:
            why = "" if groups is None else f"{units.max() + 1} separate groups are fewer than 3 parts: "
            _note(data, f"split: {why}blocks of neighbouring places, each place in one part")
            where = data.latitude.numpy()[nodes] + 1j * data.longitude.numpy()[nodes]
            # Without names of places, images at one point are of one place.
            units = _units(np.unique(where, return_inverse=True)[1] if places is None else places)
            _check(int(units.max()) + 1, data.name, "places with a label")
            parts = _blocks(data, nodes, units, seed)
        else:
            parts = _deal(units, seed)
    return {part: nodes[rows] for part, rows in zip(_PARTS, parts, strict=True)}


def _of(data: Data, key: str, nodes: NDArray[np.int64]) -> NDArray[np.int64] | None:
    found = data.get(key)
    return None if found is None else found.numpy()[nodes]


def _check(count: int, name: str, what: str) -> None:
    if count < len(_PARTS):
        raise FIMPError(f"{name}: {count} {what} are too few for training, validation and test; add more")


def _note(data: Data, note: str) -> None:
    if note not in data.notes:
        data.notes.append(note)


def _units(*columns: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """What can only move together, numbered from 0: images of one group or place, and what these share in turn."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links, count = [], 0
    for codes in columns:
        if codes is None:
            continue
        # Each to the first of its value.
        _, first, back = np.unique(codes, return_index=True, return_inverse=True)
        member = np.flatnonzero(codes >= 0)
        links.append(np.stack([member, first[back[member]]]))
        count = len(codes)
    row, column = np.concatenate(links, axis=1)
    links_of_all = coo_matrix((np.ones(len(row)), (row, column)), shape=(count, count))
    units: NDArray[np.int64] = connected_components(links_of_all, directed=False)[1].astype(np.int64)
    return units


def _deal(units: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], ...]:
    """Whole units, each to the part that lacks most of its share: of several random orders the one nearest to it."""
    sizes = np.bincount(units)
    generator = np.random.default_rng([seed, 4])
    drawn = [_dealt(sizes, generator.permutation(len(sizes))) for _ in range(_DRAWS)]
    part = min(drawn, key=lambda found: found[1])[0]
    return tuple(np.flatnonzero(part[units] == index) for index in range(len(_PARTS)))


def _dealt(sizes: NDArray[np.int64], order: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """The part of each unit, dealt in this order so that none is empty, and the squared distance to the shares."""
    part = np.empty(len(sizes), dtype=np.int64)
    lacking = np.array(SHARES) * sizes.sum()
    empty = np.ones(len(_PARTS), dtype=bool)
    for left, unit in zip(range(len(order), 0, -1), order, strict=True):
        # The last units are for parts that have none.
        open_to = empty if empty.sum() >= left else np.ones_like(empty)
        chosen = int(np.argmax(np.where(open_to, lacking, -np.inf)))
        part[unit], empty[chosen] = chosen, False
        lacking[chosen] -= sizes[unit]
    return part, float(np.square(lacking).sum())


def _blocks(data: Data, nodes: NDArray[np.int64], units: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], ...]:
    """Blocks of places; each place lies where its first image does."""
    _, first = np.unique(units, return_index=True)
    if len(first) < _FEWEST:
        return _deal(units, seed)
    where = np.stack([data.latitude.numpy(), data.longitude.numpy()], axis=1)[nodes[first]]
    return tuple(np.flatnonzero(np.isin(units, part)) for part in block_split(where, seed))
