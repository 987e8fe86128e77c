"""What networks with cross-node attention tell of it: weights along edges, and what their rows and columns are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fimp.data.subgraph import Subgraph

#: Says of edges ``[2, e]``, positions in ``Subgraph.nodes``, which of them are wanted ``[e]``.
Keep = Callable[[Tensor], Tensor]


class EdgeAttention(NamedTuple):
    """Attention along some edges.

    Attributes
    ----------
    weight
        ``[e, T, S]``, from the receiver's tokens to the sender's.
    receiver
        Which token each row is, ``[e, T]`` int64: a gene, a patch, a region; -1 where there is none that has a name.
    sender
        The same of the columns, ``[e, S]``.
    edges
        ``[2, e]``, sender in row 0, positions in ``Subgraph.nodes``.
    """

    weight: Tensor
    receiver: Tensor
    sender: Tensor
    edges: Tensor

    def cpu(self) -> EdgeAttention:
        """All parts on the CPU."""
        return EdgeAttention(*(part.cpu() for part in self))


def chosen_edges(graph: Subgraph, keep: Keep) -> tuple[Tensor, Tensor]:
    """Wanted self-loops ``[2, l]`` of the seeds, and wanted edges ``[2, e]`` of the graph into them."""
    loops = torch.arange(graph.num_seeds, device=graph.edge_index.device).expand(2, -1)
    near = graph.edge_index[:, : sum(graph.num_edges[:1])]
    return loops[:, keep(loops)], near[:, keep(near)]


def named(parts: Iterator[tuple[Tensor, Tensor]], receivers: Tensor, senders: Tensor) -> Iterator[EdgeAttention]:
    """Attention of edges with what its rows and columns are.

    Parameters
    ----------
    parts
        Edges ``[2, e]`` and their attention ``[e, T, S]``, in chunks.
    receivers, senders
        What the tokens of each node are, ``[seeds, t]`` and ``[n, s]``. Where there are fewer than T or S, the first
        tokens have no name (``<cls>``, for instance).
    """
    for edges, weight in parts:
        receiver, sender = (
            F.pad(names[index], (size - names.size(1), 0), value=-1)
            for names, index, size in ((receivers, edges[1], weight.size(1)), (senders, edges[0], weight.size(2)))
        )
        yield EdgeAttention(weight, receiver, sender, edges)
