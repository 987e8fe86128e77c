"""A graph in blocks of nodes that lie together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from fimp.data.in_edges import InEdges
from fimp.errors import FIMPError


class Block(NamedTuple):
    """Nodes next to each other in the order of a graph, and what they hear.

    Attributes
    ----------
    start, stop
        The nodes, by their places in the order.
    sources
        Places of the nodes that they hear, ascending, ``[s]``.
    edge_index
        ``[2, e]``: positions in ``sources``, and in the block.
    edge_weight
        ``[e]``, or None.
    """

    start: int
    stop: int
    sources: NDArray[np.int64]
    edge_index: Tensor
    edge_weight: Tensor | None


def locality_order(edge_index: Tensor, num_nodes: int, positions: Tensor | None = None) -> NDArray[np.int64]:
    """All nodes, ``[N]``, such that neighbours are close to each other, as far as the graph allows.

    Parameters
    ----------
    edge_index
        ``[2, E]``.
    num_nodes
        N.
    positions
        Coordinates ``[N, dimensions]``, where edges join nodes that lie together: nodes then come in the order of a
        k-d tree's leaves, whose blocks have short borders. Otherwise reverse Cuthill-McKee, O(E).
    """
    if positions is not None:
        from scipy.spatial import cKDTree

        tree = cKDTree(positions.cpu().numpy(), leafsize=64, compact_nodes=False, balanced_tree=False)
        return np.asarray(tree.indices, dtype=np.int64)
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    edges = InEdges(edge_index, num_nodes)
    ones = np.ones(len(edges.sources), dtype=np.int8)
    adjacency = csr_array((ones, edges.sources, edges.indptr), shape=(num_nodes, num_nodes))
    return reverse_cuthill_mckee(adjacency, symmetric_mode=False).astype(np.int64).copy()


class Plan:
    """Which blocks the nodes of a graph are computed in.

    Parameters
    ----------
    edges
        In-edges of the nodes, all by place in the order.
    edge_weight
        In the order of ``edges``, or None.
    cost
        Bytes that a block takes, of its numbers of nodes and of sources.
    most
        Bytes that a block may take.

    Attributes
    ----------
    bounds
        First node of each block, and the one after its last.
    repeats
        How many blocks a node is heard in, on average.

    Raises
    ------
    FIMPError
        If one node alone hears more than fits.
    """

    def __init__(self, edges: InEdges, edge_weight: Tensor | None, cost: Callable[[int, int], int], most: int) -> None:
        self._edges, self._weight = edges, edge_weight
        self.bounds: list[tuple[int, int]] = []
        count, start, heard = len(edges.degree), 0, 0
        size = max(1, most // cost(1, 1))
        while start < count:
            stop = min(count, start + size)
            sources = len(self._sources(start, stop))
            taken = cost(stop - start, sources)
            if taken > most:
                if stop - start == 1:
                    raise FIMPError(
                        f"memory_budget: {sources} nodes that one node hears take {taken / 2**20:.1f} MiB of working "
                        f"memory, and {most / 2**20:.1f} MiB may be used; allow more"
                    )
                # What fits if it has as many sources for every node, and a little less.
                size = min(stop - start - 1, max(1, int(0.95 * (stop - start) * most / taken)))
                continue
            self.bounds.append((start, stop))
            heard += sources
            start = stop
            if taken < 0.8 * most:
                size = max(size, int(0.9 * (stop - self.bounds[-1][0]) * most / taken))
        self.repeats = heard / max(1, count)

    def _sources(self, start: int, stop: int) -> NDArray[np.integer]:
        pointer = self._edges.indptr
        return np.unique(self._edges.sources[pointer[start] : pointer[stop]])

    def blocks(self, loops: bool = False) -> Iterator[Block]:
        """All blocks in order; with ``loops``, nodes that do not hear themselves do so with weight 1."""
        for start, stop in self.bounds:
            edge, row = self._edges.of(np.arange(start, stop))
            src = self._edges.sources[edge].astype(np.int64)
            weight = None if self._weight is None else self._weight[torch.from_numpy(edge)]
            if loops:
                missing = np.ones(stop - start, dtype=bool)
                missing[row[src == row + start]] = False
                lone = np.flatnonzero(missing)
                src, row = np.concatenate([src, lone + start]), np.concatenate([row, lone])
                weight = weight if weight is None else torch.cat([weight, weight.new_ones(len(lone))])
            sources, place = np.unique(src, return_inverse=True)
            yield Block(start, stop, sources, torch.from_numpy(np.stack([place, row])), weight)
