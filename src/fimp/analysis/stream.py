"""Attention of a trained model along the edges of a whole graph, some edges at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.masking import EVALUATION
from fimp.errors import FIMPError
from fimp.estimators import CellModel, GraphModel
from fimp.tasks.attention import EdgeAttention
from fimp.train.loader import EVALUATION_BATCH, evaluation_order, sampler_for, whole

EDGES = ("self", "neighbors", "all")


@dataclass(frozen=True)
class EdgeChoice:
    """Which edges are looked at.

    Attributes
    ----------
    kind
        ``self``: of nodes to themselves. ``neighbors``: between different nodes. ``all``: both.
    senders, receivers
        Which nodes may send and receive, ``[N]``; None for all.

    Raises
    ------
    FIMPError
        If ``kind`` is unknown.
    """

    kind: str = "neighbors"
    senders: NDArray[np.bool_] | None = None
    receivers: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.kind not in EDGES:
            raise FIMPError(f"--edges: {self.kind!r} is unknown; use {', '.join(EDGES)}")

    def keep(self, edges: Tensor) -> Tensor:
        """Whether each of some edges ``[2, e]`` between nodes of the whole graph is looked at, ``[e]``."""
        loop = edges[0] == edges[1]
        kept = {"self": loop, "neighbors": ~loop, "all": torch.ones_like(loop)}[self.kind]
        for nodes, end in ((self.senders, edges[0]), (self.receivers, edges[1])):
            if nodes is not None:
                kept = kept & torch.from_numpy(nodes).to(end.device)[end]
        return kept


@torch.no_grad()
def stream(
    model: GraphModel,
    task: Any,
    choice: EdgeChoice = EdgeChoice(),
    draws: int = 1,
    layer: int | None = None,
    nodes: NDArray[np.int64] | None = None,
) -> Iterator[EdgeAttention]:
    """Attention along the chosen edges of a graph, in chunks of bounded size.

    Parameters
    ----------
    model
        A model with cross-node attention.
    task
        Its task on the data that is looked at (``model.task_on(None)`` for its own).
    choice
        Which edges.
    draws
        Draws of visible and hidden genes of cells; there is one view of anything else.
    layer
        Which layer of a foundation model; the mean over all by default.
    nodes
        Which nodes receive; all by default.

    Yields
    ------
    EdgeAttention
        With edges between nodes of the whole graph, on the CPU.

    Raises
    ------
    FIMPError
        If the model has no cross-node attention.
    """
    device, network = torch.device(model.config.train.accelerator), model.network
    sampler = sampler_for(task, model.choice, network.hops, model.config.train.fanout)
    nodes = np.arange(task.data.num_nodes) if nodes is None else nodes
    if choice.receivers is not None and task.together == 1:
        nodes = nodes[choice.receivers[nodes]]
    nodes, size = evaluation_order(task, nodes), whole(EVALUATION_BATCH, task.together)
    epochs: Sequence[int] = range(draws) if isinstance(model, CellModel) else [EVALUATION]
    network.to(device).eval()
    try:
        for epoch in epochs:
            for start in range(0, len(nodes), size):
                graph = sampler.sample(nodes[start : start + size])
                where = torch.from_numpy(graph.nodes)
                inputs = task.inputs(graph.nodes, epoch)
                keep = partial(_keep, choice, where.to(device))
                parts = network.attention(inputs.to(device), graph.to(device), keep, layer)
                for part in parts:
                    found = part.cpu()
                    yield found._replace(edges=where[found.edges])
    finally:
        network.cpu()


def _keep(choice: EdgeChoice, where: Tensor, edges: Tensor) -> Tensor:
    """What a choice says of edges between positions in a subgraph, whose nodes are ``where``."""
    return choice.keep(where[edges])
