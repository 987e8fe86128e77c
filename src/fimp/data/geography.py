"""Neighbour graphs of places on the globe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fimp.errors import FIMPError

#: Mean radius of the Earth, in miles.
EARTH_MILES = 3958.7613
#: Distances that differ by less are equal (in radii of the Earth; 6 micrometres): rounding errors decide nothing.
_SAME = 1e-12
#: Candidates in one go: memory beside the result is bounded by this.
_AT_ONCE = 2_000_000
#: Most rows of one place: all are joined with all, so more would not be linear.
_MOST_AT_PLACE = 1000


class _Spots(NamedTuple):
    """The distinct points at which nodes lie."""

    vectors: NDArray[np.float64]
    """Unit vectors ``[S, 3]``."""
    of_node: NDArray[np.int64]
    """The spot of each node ``[N]``."""
    nodes: NDArray[np.int64]
    """Nodes by spot, ascending within one ``[N]``."""
    start: NDArray[np.int64]
    """Where each spot begins in ``nodes`` ``[S + 1]``."""


def unit_vectors(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Points of the unit sphere: x towards 0 N 0 E, y towards 0 N 90 E, z towards the north pole.

    Parameters
    ----------
    latitude, longitude
        Degrees ``[N]``, latitude from -90 to 90 and longitude from -180 to 360.

    Returns
    -------
    ndarray
        ``[N, 3]`` float64.

    Raises
    ------
    FIMPError
        If they differ in shape, or a value is not finite or outside its range.
    """
    phi, theta = np.deg2rad(_checked(latitude, longitude))
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=1)


def geographic_graph(
    latitude: ArrayLike,
    longitude: ArrayLike,
    radius_miles: float = 10.0,
    max_neighbors: int = 8,
    place: Sequence[Any] | NDArray[Any] | None = None,
) -> Tensor:
    """Every node receives from its nearest other nodes by great-circle distance.

    Parameters
    ----------
    latitude, longitude
        Degrees ``[N]``, latitude from -90 to 90 and longitude from -180 to 360.
    radius_miles
        Greatest distance of a neighbour, in statute miles.
    max_neighbors
        Most neighbours of a node: the nearest, of equally near ones those that stand first.
    place
        Labels ``[N]``. Nodes of equal label are joined both ways whatever the radius. They take the first of the
        ``max_neighbors`` seats, and all have one, even where there are more of them. None, NaN and empty text
        are no label.

    Returns
    -------
    Tensor
        ``edge_index [2, E]`` int64, sorted by destination; of one destination nodes of its place come first, then
        others by distance. Without self-loops.

    Raises
    ------
    FIMPError
        If coordinates cannot be used, ``radius_miles`` is not above 0, ``max_neighbors`` below 1, labels are not N, or
        more than 1,000 nodes have one label.

    Examples
    --------
    >>> geographic_graph([0.0, 0.0, 50.0], [179.99, -179.99, 8.0])
    tensor([[1, 0],
            [0, 1]])
    """
    if not radius_miles > 0:
        raise FIMPError(f"radius_miles is {radius_miles}, wanted miles above 0; use 10, for instance")
    if max_neighbors < 1:
        raise FIMPError(f"max_neighbors is {max_neighbors}, wanted at least 1; use 8, for instance")
    spots = _spots(*_checked(latitude, longitude))
    count = len(spots.of_node)
    group = np.full(count, -1, dtype=np.int64) if place is None else _groups(place, count)
    mates = _mates(group)
    limit = 2.0 * np.sin(min(radius_miles / EARTH_MILES, np.pi) / 2.0) + _SAME
    start, near = _nearest(spots, limit, min(max_neighbors, count - 1) + 1)
    seats = np.maximum(max_neighbors - np.bincount(mates[1], minlength=count), 0)
    edges = np.concatenate([mates, _dealt(spots, start, near, group, seats)], axis=1)
    # Stable: what comes first among the edges of a destination stays first.
    return torch.from_numpy(edges[:, np.argsort(edges[1], kind="stable")])


def _checked(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Both as ``[2, N]``."""
    found = []
    for name, values, low in (("latitude", latitude, -90.0), ("longitude", longitude, -180.0)):
        array = np.asarray(values)
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise FIMPError(f"{name} has shape {list(array.shape)} and type {array.dtype}, wanted degrees [N]")
        high = 90.0 if low == -90.0 else 360.0
        array = array.astype(np.float64)
        bad = np.flatnonzero(~((array >= low) & (array <= high)))
        if bad.size:
            raise FIMPError(
                f"{name}[{bad[0]}] is {array[bad[0]]:g}, wanted degrees from {low:g} to {high:g}; "
                "correct it or leave it out, and see that latitude comes first"
            )
        found.append(array)
    if len(found[0]) != len(found[1]):
        raise FIMPError(f"latitude has {len(found[0])} values and longitude {len(found[1])}, wanted equally many")
    return np.stack(found)


def _spots(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> _Spots:
    # One point, one name: longitudes 0 and 360 are the same, and all of them are at a pole. Adding 0 makes -0 a 0.
    longitude = np.where(np.abs(latitude) == 90.0, 0.0, np.where(longitude >= 180.0, longitude - 360.0, longitude))
    # Complex numbers are sorted by both their parts.
    distinct, of_node = np.unique((latitude + 0.0) + 1j * (longitude + 0.0), return_inverse=True)
    counts = np.bincount(of_node, minlength=len(distinct))
    nodes = np.argsort(of_node, kind="stable")
    return _Spots(unit_vectors(distinct.real, distinct.imag), of_node, nodes, np.append(0, np.cumsum(counts)))


def _groups(place: Sequence[Any] | NDArray[Any], count: int) -> NDArray[np.int64]:
    import pandas as pd

    from fimp.data.columns import encode

    if len(place) != count:
        raise FIMPError(f"place has {len(place)} labels for {count} nodes, wanted one for each")
    coded = encode(pd.Series(place))
    sizes = np.bincount(coded.codes[coded.codes >= 0], minlength=1)
    if sizes.max() > _MOST_AT_PLACE:
        raise FIMPError(
            f"place has {sizes.max():,} rows of {coded.names[int(sizes.argmax())]!r}, wanted at most "
            f"{_MOST_AT_PLACE:,}: all rows of one place are joined; name places, not regions"
        )
    return coded.codes


def _mates(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """All ordered pairs of two nodes of one group, ``[2, pairs]``."""
    order = np.argsort(group, kind="stable")
    order = order[group[order] >= 0]
    sizes = np.bincount(group[order], minlength=1)
    first = np.append(0, np.cumsum(sizes))[:-1][group[order]]
    source = order[_ranges(first, sizes[group[order]])]
    target = np.repeat(order, sizes[group[order]])
    return np.stack([source, target])[:, source != target]


def _nearest(spots: _Spots, limit: float, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every spot up to ``most`` nodes within a chord of ``limit``, its own included, by distance and number.

    Returned as the start of each spot's list ``[S + 1]``, and all lists in a row.
    """
    from scipy.spatial import cKDTree

    if len(spots.vectors) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.int64)
    tree = cKDTree(spots.vectors)
    # No list needs more nodes of one spot than it has entries.
    usable = np.minimum(np.diff(spots.start), most)
    step = max(1, _AT_ONCE // ((most + 1) * int(usable.max())))
    sizes, lists = [], []
    for low in range(0, len(spots.vectors), step):
        rows = np.arange(low, min(low + step, len(spots.vectors)))
        found = _lists(tree, spots, usable, rows, limit, most)
        sizes.append(found[0])
        lists.append(found[1])
    return np.append(0, np.cumsum(np.concatenate(sizes))), np.concatenate(lists)


def _lists(
    tree: Any, spots: _Spots, usable: NDArray[np.int64], rows: NDArray[np.int64], limit: float, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sizes of the lists of some spots ``[rows]``, and the lists in a row."""
    # One more than is needed shows whether others are equally near as the last, of which the first numbers count.
    ask, total = most + 1, len(spots.vectors)
    pending, parts = rows, []
    while len(pending):
        ask = min(ask, total)
        chord, spot = tree.query(spots.vectors[pending], k=np.arange(1, ask + 1), distance_upper_bound=limit)
        rank = np.where(spot < total, np.rint(chord / _SAME), np.inf)
        unsure = np.isfinite(rank[:, -1]) & (rank[:, -1] <= rank[:, min(most, ask) - 1]) & (ask < total)
        parts.append(_expanded(spots, usable, pending[~unsure], rank[~unsure], spot[~unsure], most))
        pending, ask = pending[unsure], 2 * ask
    owner, node = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    order = np.argsort(owner, kind="stable")
    return np.bincount(owner - rows[0], minlength=len(rows)), node[order]


def _expanded(
    spots: _Spots,
    usable: NDArray[np.int64],
    rows: NDArray[np.int64],
    rank: NDArray[np.float64],
    spot: NDArray[np.int64],
    most: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Spots found around some spots, as the nodes at them: the owner of each entry, and the node."""
    found = np.isfinite(rank)
    owner, spot, rank = np.nonzero(found)[0], spot[found], rank[found]
    counts = usable[spot]
    node = spots.nodes[_ranges(spots.start[spot], counts)]
    owner, rank = np.repeat(owner, counts), np.repeat(rank, counts)
    order = np.lexsort((node, rank, owner))
    owner, node = owner[order], node[order]
    keep = _places_in_run(owner) < most
    return rows[owner[keep]], node[keep]


def _dealt(
    spots: _Spots,
    start: NDArray[np.int64],
    near: NDArray[np.int64],
    group: NDArray[np.int64],
    seats: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Edges from the list of each node's spot, without itself and its group, up to its number of seats."""
    sizes = np.diff(start)
    step = max(1, _AT_ONCE // max(1, int(sizes.max(initial=0))))
    edges = [np.zeros((2, 0), np.int64)]
    for low in range(0, len(spots.of_node), step):
        nodes = np.arange(low, min(low + step, len(spots.of_node)))
        at = spots.of_node[nodes]
        source = near[_ranges(start[at], sizes[at])]
        target = np.repeat(nodes, sizes[at])
        keep = (source != target) & ((group[source] != group[target]) | (group[target] < 0))
        source, target = source[keep], target[keep]
        keep = _places_in_run(target) < seats[target]
        edges.append(np.stack([source[keep], target[keep]]))
    return np.concatenate(edges, axis=1)


def _ranges(first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``first[0], first[0] + 1, ...`` of ``counts[0]`` numbers, then those of ``first[1]``, and so on."""
    ends = np.cumsum(counts)
    return np.repeat(first - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def _places_in_run(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of values that stand in runs: how many of its run come before it."""
    begins = np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.zeros(0, np.int64)
    return np.arange(len(values)) - np.repeat(begins, np.diff(np.append(begins, len(values))))
