"""What a sampler hands to a model: the part of the graph that some seeds' messages come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
    """

    nodes: NDArray[np.int64]
    edge_index: Tensor
    num_nodes: tuple[int, ...]
    num_edges: tuple[int, ...]
    degree: Tensor

    @property
    def num_seeds(self) -> int:
        """Number of seeds."""
        return self.num_nodes[0]

    def layers(self) -> Iterator[tuple[Tensor, int]]:
        """Edges and number of destination nodes of each layer, first layer first."""
        for hop in range(len(self.num_edges) - 1, -1, -1):
            yield self.edge_index[:, : self.num_edges[hop]], self.num_nodes[hop]

    def to(self, device: torch.device) -> Subgraph:
        """Tensors on a device."""
        return self._replace(edge_index=self.edge_index.to(device), degree=self.degree.to(device))
