"""Nodes of a graph, shared out among processes."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.in_edges import InEdges
from fimp.errors import FIMPError
from fimp.train.inference.rows import Rows

#: Bytes of rows that are under way to one process at once.
_MESSAGE = 2**24


class Partition:
    """The nodes that this process computes: a stretch of the order, with an equal share of nodes and edges.

    Its rows are its own nodes, and after them those of other processes that they hear (``halo``).

    Parameters
    ----------
    edge_index
        ``[2, E]``.
    order
        All nodes, ``[N]``.
    edge_weight
        ``[E]`` or None.
    group
        The processes, or None for this one alone.

    Attributes
    ----------
    nodes
        Own nodes in order, ``[n]``, and those of the halo, ``[h]``.
    own
        n.
    edges, edge_weight
        In-edges of own nodes, sources by row; and their weights.
    """

    def __init__(
        self,
        edge_index: Tensor,
        order: NDArray[np.int64],
        edge_weight: Tensor | None,
        group: dist.ProcessGroup | None,
    ) -> None:
        self._group = group
        self._rank, self._size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        place = torch.empty(len(order), dtype=torch.int32)
        place[torch.from_numpy(order)] = torch.arange(len(order), dtype=torch.int32)
        # Row by row, so that only one more copy of the edges is held.
        edge_index = torch.stack([place[row.cpu()] for row in edge_index])
        bounds = stretches(np.bincount(edge_index[1].numpy(), minlength=len(order)), self._size)
        start, stop = bounds[self._rank], bounds[self._rank + 1]
        halo = np.zeros(0, dtype=np.int64)
        if self._size > 1:
            mine = (edge_index[1] >= start) & (edge_index[1] < stop)
            edge_index = edge_index[:, mine]
            edge_weight = None if edge_weight is None else edge_weight[mine]
            src = edge_index[0].numpy()
            halo = np.unique(src[(src < start) | (src >= stop)]).astype(np.int64)
            row = np.where((src < start) | (src >= stop), stop - start + np.searchsorted(halo, src), src - start)
            edge_index = torch.stack([torch.from_numpy(row.astype(np.int32)), edge_index[1] - start])
        self.own = int(stop - start)
        self.nodes = np.concatenate([order[start:stop], order[halo]])
        self.edges = InEdges(edge_index, self.own, num_sources=len(self.nodes))
        self.edge_weight = None if edge_weight is None else edge_weight.cpu()[torch.from_numpy(self.edges.ids).long()]
        self._lists(halo, bounds)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        edges = self.edges
        arrays = (self.nodes, edges.sources, edges.ids, edges.indptr, edges.degree)
        return sum(array.nbytes for array in arrays) + (0 if self.edge_weight is None else self.edge_weight.nbytes)

    def _lists(self, halo: NDArray[np.int64], bounds: NDArray[np.int64]) -> None:
        """Which own rows every process wants, and where the halo of each begins."""
        if self._size == 1:
            return
        self._halo = self.own + np.searchsorted(halo, bounds)
        wanted = np.split(halo, np.searchsorted(halo, bounds[1:-1]))
        every: list[list[NDArray[np.int64]]] = [[] for _ in range(self._size)]
        dist.all_gather_object(every, wanted, group=self._group)
        self._wanted = [theirs[self._rank] - bounds[self._rank] for theirs in every]

    def exchange(self, rows: Rows, width: int, dtype: torch.dtype) -> None:
        """Fill in the rows ``[h, width]`` of the halo, and give others what they wait for."""
        chunk = max(1, _MESSAGE // (width * dtype.itemsize))
        for shift in range(1, self._size):
            there, here = (self._rank + shift) % self._size, (self._rank - shift) % self._size
            sent, begin, end = self._wanted[there], int(self._halo[here]), int(self._halo[here + 1])
            for step in range(max(-(-len(sent) // chunk), -(-(end - begin) // chunk))):
                part = sent[step * chunk : (step + 1) * chunk]
                first, last = min(end, begin + step * chunk), min(end, begin + (step + 1) * chunk)
                under_way = []
                if len(part):
                    content = rows.gather(part).contiguous().view(torch.uint8)
                    under_way.append(dist.isend(content, group=self._group, group_dst=there))
                found = torch.empty(last - first, width, dtype=dtype)
                if last > first:
                    under_way.append(dist.irecv(found.view(torch.uint8), group=self._group, group_src=here))
                for transfer in under_way:
                    if transfer is not None:
                        transfer.wait()
                if last > first:
                    rows.write(first, found)


def stretches(degree: NDArray[np.int64], processes: int) -> NDArray[np.int64]:
    """Where the stretch of each process begins, and where the last ends, ``[processes + 1]``.

    Parameters
    ----------
    degree
        In-degrees ``[N]``; a node weighs as much as an in-edge.
    processes
        How many; each gets one node at least.

    Raises
    ------
    FIMPError
        If there are fewer nodes than processes.
    """
    count = len(degree)
    if count < processes:
        raise FIMPError(f"group: {processes} processes, but {count} nodes; use as many processes at most")
    weight = np.cumsum(degree + 1)
    share = np.arange(1, processes) * weight[-1:].sum() / processes
    bounds = np.concatenate([[0], np.searchsorted(weight, share), [count]])
    for place in range(1, processes):
        bounds[place] = min(max(bounds[place], bounds[place - 1] + 1), count - processes + place)
    return bounds
