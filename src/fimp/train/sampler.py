"""Neighbour sampling on CSR arrays: seeds to the subgraph that their messages come from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.hashing import hash_uniform
from fimp.data.masking import EVALUATION
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError


class NeighborSampler:
    """Samples in-neighbours hop by hop, vectorised over all nodes of a hop.

    Which neighbours a node gets depends on (seed, epoch, hop, edge) alone, not on the batch. With ``egos``
    it does not depend on the hop either: a node keeps the same neighbours in the graphs of all seeds.

    Parameters
    ----------
    edge_index
        ``[2, E]``, source in row 0.
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

    Raises
    ------
    FIMPError
        If a fan-out is neither positive nor -1.
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int,
        fanouts: list[int],
        seed: int = 0,
        *,
        encoding: Tensor | None = None,
        egos: bool = False,
    ) -> None:
        if any(fanout < 1 and fanout != -1 for fanout in fanouts):
            raise FIMPError(f"NeighborSampler: fanouts={fanouts}; each must be positive, or -1 for all")
        src, dst = edge_index.numpy()
        order = np.argsort(dst, kind="stable")
        self.sources = src[order].astype(np.int64)
        self.degree = np.bincount(dst, minlength=num_nodes).astype(np.int64)
        self.indptr = np.concatenate([[0], np.cumsum(self.degree)])
        self.fanouts, self.seed = list(fanouts), seed
        self.encoding, self.egos = encoding, egos
        self._position = np.full(num_nodes, -1, dtype=np.int64)

    def sample(self, seeds: NDArray[np.int64], epoch: int = EVALUATION) -> Subgraph:
        """Subgraph around distinct seeds ``[n]``."""
        position = self._position
        parts, num_nodes = [seeds], [len(seeds)]
        num_edges: list[int] = []
        position[seeds] = np.arange(len(seeds))
        sources, targets = [], []
        frontier = seeds
        for hop, fanout in enumerate(self.fanouts):
            src, dst = self._neighbors(frontier, fanout, epoch, 0 if self.egos else hop)
            met = src[position[src] < 0]
            new = np.unique(met)
            position[new] = num_nodes[-1] + np.arange(len(new))
            sources.append(position[src])
            targets.append(position[dst])
            parts.append(new)
            num_nodes.append(num_nodes[-1] + len(new))
            num_edges.append((num_edges[-1] if num_edges else 0) + len(src))
            frontier = new
        nodes = np.concatenate(parts)
        position[nodes] = -1
        edges = np.stack([np.concatenate([*sources, nodes[:0]]), np.concatenate([*targets, nodes[:0]])])
        degree = torch.from_numpy(self.degree[nodes])
        encoding = None if self.encoding is None else self.encoding[torch.from_numpy(nodes)]
        graph = Subgraph(nodes, torch.from_numpy(edges), tuple(num_nodes), tuple(num_edges), degree, encoding)
        return graph.with_egos() if self.egos else graph

    def _neighbors(
        self, nodes: NDArray[np.int64], fanout: int, epoch: int, hop: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        counts = self.degree[nodes]
        first = np.cumsum(counts) - counts
        row = np.repeat(np.arange(len(nodes)), counts)
        edge = np.arange(counts.sum()) + np.repeat(self.indptr[nodes] - first, counts)
        if fanout >= 0 and counts.max(initial=0) > fanout:
            order = np.lexsort((hash_uniform(self.seed, epoch, hop, edge), row))
            keep = np.arange(len(row)) - np.repeat(first, counts) < fanout
            row, edge = row[keep], edge[order][keep]
        return self.sources[edge], nodes[row]
