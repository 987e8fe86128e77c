"""The edges of a graph by destination, so that those of any nodes are found without looking at all."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from fimp.errors import FIMPError


class InEdges:
    """In-edges of every node, in the order of ``edge_index``; built in O(N + E).

    Parameters
    ----------
    edge_index
        ``[2, E]`` integers, source in row 0, on any device.
    num_nodes
        N, of destinations.
    caller
        Whom errors name.
    num_sources
        Number of sources where these are other nodes; the same by default.

    Attributes
    ----------
    indptr
        ``[N + 1]``: the in-edges of node i are numbers ``indptr[i]`` to ``indptr[i + 1]``.
    sources
        Source of each, ``[E]``.
    ids
        Which column of ``edge_index`` each is, ``[E]``.
    degree
        In-degrees, ``[N]``.

    Raises
    ------
    FIMPError
        If ``edge_index`` is not ``[2, E]`` of integers, or points outside the nodes.
    """

    def __init__(
        self, edge_index: Tensor, num_nodes: int, caller: str = "InEdges", num_sources: int | None = None
    ) -> None:
        if not isinstance(edge_index, Tensor) or edge_index.dim() != 2 or edge_index.size(0) != 2:
            found = list(edge_index.shape) if isinstance(edge_index, Tensor) else type(edge_index).__name__
            raise FIMPError(f"{caller}: edge_index is {found}, wanted a tensor [2, E]")
        if edge_index.dtype not in (torch.int64, torch.int32):
            raise FIMPError(f"{caller}: edge_index has type {edge_index.dtype}, wanted int64 or int32; use .long()")
        src, dst = edge_index.cpu().numpy()
        for index, size in ((src, num_nodes if num_sources is None else num_sources), (dst, num_nodes)):
            if len(index) and (index.min() < 0 or index.max() >= size):
                raise FIMPError(
                    f"{caller}: edge_index has nodes {index.min()}..{index.max()}, wanted 0..{size - 1}; see num_nodes"
                )
        # A matrix with a row per edge, turned to columns: a stable counting sort in O(N + E), where argsort is slower.
        columns = csr_array((src, dst, np.arange(len(src) + 1)), shape=(len(src), num_nodes)).tocsc()
        self.indptr: NDArray[np.int64] = columns.indptr.astype(np.int64)
        self.sources: NDArray[np.integer] = columns.data
        self.ids: NDArray[np.integer] = columns.indices
        self.degree: NDArray[np.int64] = np.diff(self.indptr)

    def of(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """In-edges of some nodes ``[n]``: their numbers in :attr:`sources`, and whose of the nodes each is, ``[e]``."""
        counts = self.degree[nodes]
        row = np.repeat(np.arange(len(nodes)), counts)
        first = self.indptr[nodes] - (np.cumsum(counts) - counts)
        return np.arange(len(row)) + np.repeat(first, counts), row
