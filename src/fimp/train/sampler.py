"""Neighbour sampling on CSR arrays: seeds to the subgraph that their messages come from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.hashing import hash_uniform
from fimp.data.in_edges import InEdges
from fimp.data.masking import EVALUATION
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError

#: Of a node with more in-edges than this times the fan-out, not all are looked at.
_HUB = 64


class NeighborSampler:
    """Samples in-neighbours hop by hop, vectorised over all nodes of a hop.

    Which neighbours a node gets depends on (seed, epoch, hop, edge) alone, not on the batch. With ``egos``
    it does not depend on the hop either: a node keeps the same neighbours in the graphs of all seeds.

    Setting up takes O(N + E), sampling a time that grows with what is sampled and not with the graph. Called with
    seeds, a sampler gives their subgraph, so it serves as a ``collate_fn``.

    Parameters
    ----------
    edge_index
        ``[2, E]`` integers (int64 or int32), source in row 0.
    num_nodes
        N.
    fanouts
        Most in-neighbours per node for each hop, seeds' hop first; -1 takes all. One per layer.
    seed
        Seed of the choice of neighbours.
    encoding
        Positional encodings ``[N, P]`` to hand over with the nodes.
    egos
        Add a graph of its own for every seed (:class:`fimp.data.subgraph.EgoGraphs`).

    Attributes
    ----------
    epoch
        Epoch of the draw when called; set it to draw anew. Evaluation's fixed draw at first.

    Raises
    ------
    FIMPError
        If a fan-out is neither positive nor -1, or the edges do not fit the nodes.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import DataLoader
    >>> from fimp.train import NeighborSampler
    >>> edge_index = torch.tensor([[1, 2, 3, 0], [0, 0, 1, 3]])
    >>> sampler = NeighborSampler(edge_index, num_nodes=4, fanouts=[2, 2])
    >>> for graph in DataLoader(torch.tensor([0, 1]), batch_size=1, collate_fn=sampler):
    ...     print(graph.nodes.tolist(), graph.edge_index.tolist(), graph.num_nodes)
    [0, 1, 2, 3] [[1, 2, 3], [0, 0, 1]] (1, 3, 4)
    [1, 3, 0] [[1, 2], [0, 1]] (1, 2, 3)
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int,
        fanouts: Sequence[int],
        seed: int = 0,
        *,
        encoding: Tensor | None = None,
        egos: bool = False,
    ) -> None:
        if any(fanout < 1 and fanout != -1 for fanout in fanouts):
            raise FIMPError(f"NeighborSampler: fanouts={fanouts}; each must be positive, or -1 for all")
        self.edges = InEdges(edge_index, num_nodes, "NeighborSampler")
        self.fanouts, self.seed, self.epoch = list(fanouts), seed, EVALUATION
        self.encoding, self.egos = encoding, egos
        self._position = np.full(num_nodes, -1, dtype=np.int64)

    def __call__(self, seeds: Sequence[int] | Sequence[Tensor] | Tensor) -> Subgraph:
        """Subgraph around distinct seeds ``[n]``, drawn for :attr:`epoch`."""
        return self.sample(np.asarray(torch.as_tensor(seeds).cpu()), self.epoch)

    def sample(self, seeds: NDArray[np.int64], epoch: int = EVALUATION) -> Subgraph:
        """Subgraph around distinct seeds ``[n]``.

        Raises
        ------
        FIMPError
            If a seed is no node, or is there twice.
        """
        seeds = self._checked(np.asarray(seeds))
        parts = [seeds]
        try:
            return self._sample(parts, epoch)
        finally:
            # Also where an interruption comes in between: the next sample finds all positions free.
            self._position[np.concatenate(parts)] = -1

    def _sample(self, parts: list[NDArray[np.int64]], epoch: int) -> Subgraph:
        """Sample around ``parts[0]``; nodes are added to ``parts`` before they are given positions."""
        position, frontier = self._position, parts[0]
        num_nodes, num_edges = [len(frontier)], [0]
        position[frontier] = np.arange(len(frontier))
        sources, targets = [frontier[:0]], [frontier[:0]]
        for hop, fanout in enumerate(self.fanouts):
            src, dst = self._neighbors(frontier, fanout, epoch, 0 if self.egos else hop)
            frontier = np.unique(src[position[src] < 0])
            parts.append(frontier)
            position[frontier] = num_nodes[-1] + np.arange(len(frontier))
            sources.append(position[src])
            targets.append(position[dst])
            num_nodes.append(num_nodes[-1] + len(frontier))
            num_edges.append(num_edges[-1] + len(src))
        nodes = np.concatenate(parts)
        edges = torch.from_numpy(np.stack([np.concatenate(sources), np.concatenate(targets)]))
        degree = torch.from_numpy(self.edges.degree[nodes])
        encoding = None if self.encoding is None else self.encoding[torch.from_numpy(nodes)]
        graph = Subgraph(nodes, edges, tuple(num_nodes), tuple(num_edges[1:]), degree, encoding)
        return graph.with_egos() if self.egos else graph

    def _checked(self, seeds: NDArray) -> NDArray[np.int64]:
        """Seeds as int64, if they are distinct nodes."""
        size = len(self._position)
        if seeds.ndim != 1 or (len(seeds) and seeds.dtype.kind not in "iu"):
            raise FIMPError(
                f"NeighborSampler: seeds are {list(seeds.shape)} {seeds.dtype}, wanted node indices [n]; "
                "of a boolean mask, use mask.nonzero().flatten()"
            )
        seeds = seeds.astype(np.int64)
        wrong = seeds[(seeds < 0) | (seeds >= size)]
        if len(wrong):
            raise FIMPError(f"NeighborSampler: seed {wrong[0]} is no node; wanted 0..{size - 1}")
        if len(np.unique(seeds)) < len(seeds):
            raise FIMPError("NeighborSampler: a seed is there twice; use seeds.unique()")
        return seeds

    def _neighbors(
        self, nodes: NDArray[np.int64], fanout: int, epoch: int, hop: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sources and destinations of the sampled in-edges of some nodes."""
        counts = self.edges.degree[nodes]
        hub = counts > _HUB * fanout if fanout > 0 else np.zeros(len(nodes), dtype=bool)
        plain = nodes[~hub]
        edge, row = self.edges.of(plain)
        if fanout > 0 and counts[~hub].max(initial=0) > fanout:
            order = np.lexsort((hash_uniform(self.seed, epoch, hop, edge), row))
            first = np.cumsum(counts[~hub]) - counts[~hub]
            keep = np.arange(len(row)) - np.repeat(first, counts[~hub]) < fanout
            row, edge = row[keep], edge[order][keep]
        sources, targets = self.edges.sources[edge], plain[row]
        if hub.any():
            drawn = self._of_hubs(nodes[hub], fanout, epoch, hop)
            sources = np.concatenate([sources, self.edges.sources[drawn.ravel()]])
            targets = np.concatenate([targets, np.repeat(nodes[hub], fanout)])
        return sources.astype(np.int64), targets

    def _of_hubs(self, hubs: NDArray[np.int64], fanout: int, epoch: int, hop: int) -> NDArray[np.int64]:
        """Numbers of ``fanout`` in-edges of each of some nodes ``[n, fanout]``, without a look at the others.

        Floyd's sampling without replacement (Bentley and Floyd 1987, doi 10.1145/30401.315746).
        """
        degree, first = self.edges.degree[hubs], self.edges.indptr[hubs]
        drawn = np.full((len(hubs), fanout), -1, dtype=np.int64)
        for place in range(fanout):
            last = degree - fanout + place
            pick = (hash_uniform(self.seed, epoch, hop, first + place) * (last + 1)).astype(np.int64)
            taken = (drawn[:, :place] == pick[:, None]).any(1)
            drawn[:, place] = np.where(taken, last, pick)
        return drawn + first[:, None]
