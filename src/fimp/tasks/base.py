"""What training and comparison ask of a task."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from fimp.data.subgraph import Subgraph
from fimp.models.registry import Backbone, ModelChoice

#: Names of the parts of a split.
PARTS = ("train", "val", "test")


class Network(nn.Module):
    """A model with a task's input and head; called as ``network(inputs, subgraph)``.

    Attributes
    ----------
    hops
        Number of message passing layers.
    model
        What is between the task's input and its head, where the model has anything to train.
    """

    hops: int
    model: Backbone

    def vectors(self, inputs: Any) -> Tensor:
        """What a model of vectors is given of the nodes, ``[n, F]``."""
        raise NotImplementedError

    def pretraining_loss(self, inputs: Any, graph: Subgraph) -> Tensor:
        """Self-supervised loss of a model that pretrains, a scalar; it is told nothing but :meth:`vectors`."""
        return self.model.pretraining_loss(self.vectors(inputs), graph)


class Task(Protocol):
    """A task knows its split, its masking, its loss, its metrics and its heads.

    Every model gets the same nodes, inputs, masks and metric code from it.

    Attributes
    ----------
    name
        As on the command line.
    metrics
        Metric names, and whether ``"max"`` or ``"min"`` is better.
    monitor
        The metric that early stopping and model selection look at.
    data
        The graph.
    split
        Indices of the nodes of each part.
    seed
        Seed of split, masks and initial weights.
    """

    name: ClassVar[str]
    metrics: ClassVar[dict[str, str]]
    monitor: ClassVar[str]
    data: Data
    split: dict[str, NDArray[np.int64]]
    seed: int

    def inputs(self, nodes: NDArray[np.int64], epoch: int | NDArray[np.int64]) -> Any:
        """What a model sees of some nodes: a named tuple of tensors with ``take(n)`` and ``to(device)``.

        ``epoch`` may name one for each node: what a node shows is a function of (seed, epoch, node) alone.
        """
        ...

    def network(self, choice: ModelChoice) -> Network:
        """The model with this task's tokenizer and head."""
        ...

    def edges(self, choice: ModelChoice) -> Tensor:
        """Edges that a model is given, after its control."""
        ...

    def loss(self, prediction: Tensor, inputs: Any) -> Tensor:
        """Scalar loss of the seeds."""
        ...

    def outcome(self, prediction: Tensor, inputs: Any) -> tuple[Tensor, ...]:
        """What :meth:`score` needs of a batch of seeds; batches are concatenated along the first axis."""
        ...

    def score(self, outcome: tuple[Tensor, ...]) -> dict[str, float]:
        """Metrics of a part, from the concatenated outcomes of its batches."""
        ...
