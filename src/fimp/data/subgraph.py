"""What a sampler hands to a model: the part of the graph that some seeds' messages come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array
from torch import Tensor


class EgoGraphs(NamedTuple):
    """One graph per seed: the nodes within L hops of it, apart from the graphs of other seeds.

    A node near several seeds is a member of several graphs. What attends over "the whole graph" attends over
    one of these, so that what a seed gets does not depend on which seeds share its batch (the scope of a
    node is bounded as in ShaDow, arXiv 2201.07858).

    Attributes
    ----------
    member
        Positions in ``Subgraph.nodes``, ``[m]``, grouped by seed.
    owner
        Which seed's graph each member belongs to, ``[m]``, ascending.
    edge_index
        Edges between members, ``[2, k]``, source in row 0; members at L hops have no in-edges.
    root
        Where each seed itself is among the members, ``[seeds]``.
    """

    member: Tensor
    owner: Tensor
    edge_index: Tensor
    root: Tensor


class Subgraph(NamedTuple):
    """Nodes and edges that L message passing layers need to compute the seeds.

    Nodes are ordered by distance: seeds first, then nodes first met one hop away, and so on. Layer l
    (counted from 0) reads the first ``num_nodes[L - l]`` nodes, runs over the first ``num_edges[L - l - 1]``
    edges and writes the first ``num_nodes[L - l - 1]`` nodes, so no layer computes what no later one reads.

    Attributes
    ----------
    nodes
        Indices into the whole graph, ``[n]``.
    edge_index
        Edges between positions in ``nodes``, ``[2, e]``, source in row 0.
    num_nodes
        L + 1 counts: nodes within 0, 1, ... L hops.
    num_edges
        L counts: edges into nodes within 0, ... L - 1 hops.
    degree
        In-degree in the whole graph, ``[n]``.
    encoding
        Positional encodings in the whole graph, ``[n, P]``, for models that ask for them.
    egos
        The same nodes as one graph per seed, for models that ask for it.
    seeds_of_all
        Seeds of this training step in all processes, where there are several.
    """

    nodes: NDArray[np.int64]
    edge_index: Tensor
    num_nodes: tuple[int, ...]
    num_edges: tuple[int, ...]
    degree: Tensor
    encoding: Tensor | None = None
    egos: EgoGraphs | None = None
    seeds_of_all: int | None = None

    @property
    def num_seeds(self) -> int:
        """Number of seeds."""
        return self.num_nodes[0]

    @property
    def num_step_seeds(self) -> int:
        """Number of seeds of a training step, whichever process they are in."""
        return self.num_seeds if self.seeds_of_all is None else self.seeds_of_all

    def layers(self) -> Iterator[tuple[Tensor, int]]:
        """Edges and number of destination nodes of each layer, first layer first."""
        for hop in range(len(self.num_edges) - 1, -1, -1):
            yield self.edge_index[:, : self.num_edges[hop]], self.num_nodes[hop]

    def second_ring(self, most: int = 32) -> Tensor:
        """Edges ``[2, r]`` to the seeds from nodes that are two hops away, and no nearer.

        Paths are those of the subgraph, sampled edges alone. Every node is there once, whatever the number of paths
        that lead to it; of more than ``most`` around a seed, those stay that most paths lead to.
        """
        empty = self.edge_index[:, :0]
        if len(self.num_edges) < 2:
            return empty
        size = len(self.nodes)
        near_src, near_dst = self.edge_index[:, : self.num_edges[0]]
        src, dst = self.edge_index[:, : self.num_edges[1]]
        order = torch.argsort(dst, stable=True)
        degree = torch.bincount(dst, minlength=size)
        first = degree.cumsum(0) - degree
        # Every edge into a seed goes on along all edges into its source.
        counts = degree[near_src]
        step = torch.arange(int(counts.sum()), device=src.device) - (counts.cumsum(0) - counts).repeat_interleave(
            counts
        )
        far = src[order[first[near_src].repeat_interleave(counts) + step]]
        paths = near_dst.repeat_interleave(counts) * size + far
        pair, times = torch.unique(paths, return_counts=True)
        seed, far = pair // size, pair % size
        keep = (seed != far) & ~torch.isin(pair, near_dst * size + near_src)
        seed, far, times = seed[keep], far[keep], times[keep]
        if not len(seed):
            return empty
        # Which nodes stay must not depend on their place in the batch, so equals are told apart by their index.
        order = torch.argsort(torch.as_tensor(self.nodes, device=src.device)[far])
        for key in (-times, seed):
            order = order[torch.argsort(key[order], stable=True)]
        seed, far = seed[order], far[order]
        count = torch.bincount(seed)
        rank = torch.arange(len(seed), device=src.device) - (count.cumsum(0) - count)[seed]
        return torch.stack([far, seed])[:, rank < most]

    def within(self, reach: int, most: int = 128) -> Tensor:
        """Edges ``[2, r]`` to every node from itself and from nodes that lead to it in ``reach`` hops or fewer.

        Paths are those of the subgraph. Of more than ``most`` nodes the nearest stay, and of those that are equally
        near the ones that most walks of that length start from. Edges are in the order of their destinations.
        """
        size, device = len(self.nodes), self.edge_index.device
        src, dst = self.edge_index.cpu().numpy()
        step = csr_array((np.ones(len(src)), (dst, src)), shape=(size, size))
        walks = known = eye_array(size, format="csr")
        rings = [known.tocoo()]
        for _ in range(reach):
            walks = step @ walks
            ring = walks - walks.multiply(known)
            ring.eliminate_zeros()
            known = (known + ring).sign()
            rings.append(ring.tocoo())
        seed, far, times = (np.concatenate([getattr(ring, name) for ring in rings]) for name in ("row", "col", "data"))
        hop = np.repeat(np.arange(len(rings)), [ring.nnz for ring in rings])
        # Which nodes stay must not depend on their place in the batch, so equals are told apart by their index.
        index = torch.as_tensor(self.nodes).cpu().numpy()
        order = np.lexsort((index[far], -times, hop, seed))
        seed, far = seed[order], far[order]
        count = np.bincount(seed, minlength=size)
        rank = np.arange(len(seed)) - np.repeat(np.cumsum(count) - count, count)
        return torch.from_numpy(np.stack([far, seed])[:, rank < most].astype(np.int64)).to(device)

    def to(self, device: torch.device) -> Subgraph:
        """Tensors on a device."""
        return self._replace(
            edge_index=self.edge_index.to(device),
            degree=self.degree.to(device),
            encoding=None if self.encoding is None else self.encoding.to(device),
            egos=None if self.egos is None else EgoGraphs(*(part.to(device) for part in self.egos)),
        )

    def with_egos(self) -> Subgraph:
        """The same subgraph with :class:`EgoGraphs`: as many hops around each seed alone."""
        size, seeds = max(1, len(self.nodes)), np.arange(self.num_seeds)
        src, dst = self.edge_index.numpy()
        order = np.argsort(dst, kind="stable")
        src, degree = src[order], np.bincount(dst, minlength=size)
        indptr = np.cumsum(degree) - degree
        # A member is the number owner * size + position, so sorting members groups them by owner.
        members = frontier = seeds * size + seeds
        sources, targets = [frontier[:0]], [frontier[:0]]
        for _ in self.num_edges:
            owner, node = np.divmod(frontier, size)
            counts = degree[node]
            row = np.repeat(np.arange(len(node)), counts)
            edge = np.arange(counts.sum()) + np.repeat(indptr[node] - (np.cumsum(counts) - counts), counts)
            sources.append(owner[row] * size + src[edge])
            targets.append(frontier[row])
            frontier = np.setdiff1d(sources[-1], members)
            members = np.union1d(members, frontier)
        places = [np.searchsorted(members, np.concatenate(keys)) for keys in (sources, targets)]
        owner, member = np.divmod(members, size)
        parts = (member, owner, np.stack(places), np.searchsorted(members, seeds * size + seeds))
        return self._replace(egos=EgoGraphs(*(torch.from_numpy(part) for part in parts)))
