"""What training and comparison ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from fimp.data.graphs import shuffle_sources
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.registry import Backbone, ModelChoice
from fimp.tasks.attention import EdgeAttention, Keep

#: Names of the parts of a split.
PARTS = ("train", "val", "test")


class Network(nn.Module):
    """A model with a task's input and head; called as ``network(inputs, subgraph)``.

    Attributes
    ----------
    hops
        Number of message passing layers.
    model
        The model itself, where there is anything between input and head.
    notes
        What a user should know of how it was put together.
    """

    hops: int
    model: Backbone
    notes: Sequence[str] = ()

    @property
    def pretraining_hops(self) -> int:
        """Hops that :meth:`pretraining_loss` needs."""
        return self.model.pretraining_hops

    def embed(self, inputs: Any, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``."""
        raise NotImplementedError

    def vectors(self, inputs: Any) -> Tensor:
        """What a model of vectors is given of the nodes, ``[n, F]``."""
        raise NotImplementedError

    def attention(self, inputs: Any, graph: Subgraph, keep: Keep, layer: int | None = None) -> Iterator[EdgeAttention]:
        """Attention of the seeds' tokens to their own and their neighbours', in chunks of edges.

        Parameters
        ----------
        inputs, graph
            As in a call.
        keep
            Which edges are wanted.
        layer
            Which layer of a foundation model; the mean over all by default.

        Raises
        ------
        FIMPError
            If the model has no cross-node attention.
        """
        raise FIMPError("attention: the model has no cross-node attention; use fimp-base or fimp:FOLDER")

    def pretraining_loss(self, inputs: Any, graph: Subgraph) -> Tensor:
        """Self-supervised loss of a model that pretrains, a scalar; it is told nothing but :meth:`vectors`."""
        return self.model.pretraining_loss(self.vectors(inputs), graph)


class Task(ABC):
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
        Indices of the nodes of each part; empty for a task on data that a model was not trained on.
    seed
        Seed of split, masks and initial weights.
    probes
        Whether models are not trained, and get a linear classifier on their embeddings instead.
    fills
        Whether it hides stretches of signals, which models of vectors are given filled in
        (:data:`fimp.models.registry.FILLS`).
    whole
        Whether its graph falls into small ones that a model can read as one sequence each.
    together
        Nodes in a row that are read together, such as all regions of a window: batches hold whole groups of them.
    rules
        Names of the rules that it has (models that are never trained).
    """

    probes: ClassVar[bool] = False
    fills: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = ()
    name: ClassVar[str]
    metrics: dict[str, str]
    monitor: str
    data: Data
    split: dict[str, NDArray[np.int64]]
    seed: int
    together: int = 1

    @abstractmethod
    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> Any:
        """What a model sees of some nodes: a named tuple of tensors with ``take(n)`` and ``to(device)``.

        It is a function of (seed, epoch, node) alone. What evaluation hides of validation and test nodes is hidden in
        every epoch.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was measured on training nodes, as tensors and numbers; see :class:`TaskKind`."""

    @abstractmethod
    def network(self, choice: ModelChoice) -> Network:
        """The model with this task's tokenizer and head."""

    @abstractmethod
    def loss(self, prediction: Any, inputs: Any) -> Tensor:
        """Scalar loss of the seeds."""

    @abstractmethod
    def loss_weight(self, prediction: Any, inputs: Any) -> Tensor:
        """What :meth:`loss` divides by, a scalar: the number of hidden values, or the sum of what seeds count.

        Losses of the parts of a batch, each times its weight, over the sum of weights, are the loss of the batch.
        """

    @abstractmethod
    def outcome(self, prediction: Any, inputs: Any) -> tuple[Tensor, ...]:
        """What :meth:`score` needs of a batch of seeds; batches are concatenated along the first axis.

        The first tensor says which seed of the batch an entry belongs to; it becomes the seed's node index.
        """

    def example(self, outcome: tuple[Tensor, ...]) -> dict[str, Tensor] | None:
        """What a figure shows of the outcome of the test part; None where there is no such figure."""
        return None

    @abstractmethod
    def score(self, outcome: tuple[Tensor, ...]) -> dict[str, float]:
        """Metrics of a part, from the concatenated outcomes of its batches."""

    @abstractmethod
    def node_statistics(self, outcome: tuple[Tensor, ...]) -> NDArray[np.float64]:
        """What the monitored metric needs of each node: ``[nodes, K]``, nodes in ascending order."""

    def units(self, outcome: tuple[Tensor, ...]) -> NDArray[np.int64]:
        """Which nodes the rows of :meth:`node_statistics` are, ``[nodes]``: indices, the same for every seed."""
        return np.unique(outcome[0].numpy()).astype(np.int64)

    @abstractmethod
    def resampled(self, statistics: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The monitored metric when nodes count as often as they were drawn.

        Parameters
        ----------
        statistics
            From :meth:`node_statistics`.
        weights
            ``[draws, nodes]``: how often each node was drawn.

        Returns
        -------
        ndarray
            ``[draws]``; NaN where a draw has no such metric.
        """

    def check(self, choice: ModelChoice) -> None:
        """Refuse a model that the task has no use for.

        Raises
        ------
        FIMPError
            If it is a rule of another task, says how to fill in what this task does not hide, or wants all nodes that
            belong together as one sequence where none do.
        """
        if choice.spec.input == "rule" and choice.spec.name not in self.rules:
            raise FIMPError(f"--models: {choice.spec.name} is no model of {self.name}; leave it out")
        if choice.fill is not None and not self.fills:
            raise FIMPError(f"--models: {choice.name}: {self.name} has nothing to fill in; leave out '+{choice.fill}'")
        foundation = choice.spec.foundation
        if foundation is not None and foundation.scope == "graph" and not self.whole:
            raise FIMPError(f"--models: {choice.name}: {self.name} has one graph, no sequence; leave out scope=graph")

    def rows(self, choices: Sequence[ModelChoice]) -> list[ModelChoice]:
        """The rows of a comparison of some models: where the task wants it, one for each way to fill in.

        Raises
        ------
        FIMPError
            As :meth:`check`; or if a row is there twice.
        """
        for choice in choices:
            self.check(choice)
        out = [self.with_defaults(row) for choice in choices for row in (choice.filled() if self.fills else [choice])]
        names = [row.name for row in out]
        for name in names:
            if names.count(name) > 1:
                raise FIMPError(f"--models: {name!r} is named {names.count(name)} times; name it once")
        return out

    def with_defaults(self, choice: ModelChoice) -> ModelChoice:
        """A model with the hyperparameters that suit the task, where it has those that it comes with."""
        return choice

    def starts_with_probe(self, choice: ModelChoice) -> bool:
        """Whether training of a model starts with a linear classifier of what it embeds as it comes."""
        return False

    @property
    def num_features(self) -> int:
        """Numbers that a node comes with."""
        return int(self.data.x.shape[1])

    def edges(self, choice: ModelChoice) -> Tensor:
        """Edges ``[2, E]`` that a model is given, after its control."""
        edge_index: Tensor = self.data.edge_index
        if choice.control == "no-edges":
            return edge_index[:, :0]
        return shuffle_sources(edge_index, self.seed, self.data.get("section")) if choice.control else edge_index


@dataclass(frozen=True)
class TaskKind:
    """A kind of task, for what handles tasks by name.

    Attributes
    ----------
    name
        Name on the command line.
    data_options, options
        Classes of the settings with which data is read and with which the task is set up.
    reference
        Class of the graph's ``reference``: what a trained model fixes about the data it reads. Its fields are numbers,
        strings, lists of these, or None.
    read
        ``read(source, data_options, reference)`` gives the graph; with the reference of a trained model, other data
        for that model, which need neither labels nor a split.
    make
        ``make(data, options, seed, state)`` gives the task. With the :meth:`Task.state` of a trained model, nothing
        is split and nothing is measured: it is the same task on other data.
    """

    name: str
    data_options: type
    options: type
    reference: type
    read: Callable[[Any, Any, Any], Data]
    make: Callable[[Data, Any, int, dict[str, Any] | None], Task]


_KINDS: dict[str, TaskKind] = {}


def register(kind: TaskKind) -> TaskKind:
    """Make a task known under its name."""
    _KINDS[kind.name] = kind
    return kind


def known_tasks() -> dict[str, TaskKind]:
    """All registered tasks by name."""
    return dict(_KINDS)
