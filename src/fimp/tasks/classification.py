"""What tasks that classify nodes share: network, loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from fimp.data.masking import EVALUATION
from fimp.data.splits import PART_NAMES
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.fimp import FIMP
from fimp.models.registry import ModelChoice
from fimp.tasks.attention import EdgeAttention, Keep, chosen_edges, named
from fimp.tasks.base import Network, Task
from fimp.tokenizers import Tokens

CLASS_WEIGHTS = ("none", "balanced")


class Labelled(NamedTuple):
    """Nodes with their classes.

    Attributes
    ----------
    content
        What an encoder reads: a named tuple of tensors with ``take(n)`` and ``to(device)``.
    labels
        Class of each node ``[n]`` int64; -1 = unlabelled.
    """

    content: Any
    labels: Tensor

    def take(self, n: int) -> Labelled:
        """The first n nodes."""
        return Labelled(self.content.take(n), self.labels[:n])

    def to(self, device: torch.device) -> Labelled:
        """All parts on a device."""
        return Labelled(self.content.to(device), self.labels.to(device))


class ClassificationNetwork(Network):
    """A model between an encoder and a linear layer that scores classes.

    Output starts at the log frequencies of the classes in training, and the model learns what differs.
    A model of tokens is asked one token: which class is this node?

    Parameters
    ----------
    choice
        Model and hyperparameters.
    encoder
        Module with ``out_dim``, ``vectors(content)`` and ``told(content, graph)``, such as
        :class:`fimp.tokenizers.CellEncoder`; None for a model that takes no input.
    log_prior
        Log frequency of each class among training nodes, ``[C]``.
    """

    log_prior: Tensor

    def __init__(self, choice: ModelChoice, encoder: Any, log_prior: Tensor) -> None:
        super().__init__()
        self.input = choice.spec.input
        self.register_buffer("log_prior", log_prior)
        self.bias = nn.Parameter(torch.zeros(len(log_prior)), requires_grad=choice.spec.trainable)
        self.hops = 0
        if encoder is not None:
            self.encoder = encoder
            self.model = choice.spec.backbone(choice.hyperparameters, encoder.out_dim)
            self.hops = self.model.hops
            self.head = nn.Linear(self.model.out_dim, len(log_prior), bias=False)
            nn.init.zeros_(self.head.weight)
            if self.input == "tokens":
                self.question = nn.Parameter(0.1 * torch.randn(choice.hyperparameters.dim))

    def forward(self, inputs: Labelled, graph: Subgraph) -> Tensor:
        """Scores of the seeds' classes before softmax, ``[seeds, C]``."""
        base = self.log_prior + self.bias
        if self.input == "none":
            return base.expand(graph.num_seeds, -1)
        out: Tensor = base + self.head(self.embed(inputs, graph))
        return out

    def vectors(self, inputs: Labelled) -> Tensor:
        """What a model of vectors is given of the nodes, ``[n, F]``."""
        out: Tensor = self.encoder.vectors(inputs.content)
        return out

    def embed(self, inputs: Labelled, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``.

        Raises
        ------
        FIMPError
            If the model is not trained, and has no states.
        """
        if self.input == "none":
            raise FIMPError("embed: the model 'mean' has no states; use another model")
        if self.input == "vectors":
            out: Tensor = self.model(self.vectors(inputs), graph)
            return out
        states: Tensor = self.model(*self.encoder.told(inputs.content, graph), self._asked(graph), graph)
        return states[:, 0]

    def attention(
        self, inputs: Labelled, graph: Subgraph, keep: Keep, layer: int | None = None
    ) -> Iterator[EdgeAttention]:
        """Attention of the question to what is told; see :meth:`fimp.tasks.base.Network.attention`.

        There is one row, number 0: what the class is.
        """
        if layer is not None or self.input != "tokens":
            yield from super().attention(inputs, graph, keep, layer)
            return
        assert isinstance(self.model, FIMP)
        cells, sources = self.encoder.told(inputs.content, graph)
        loops, near = chosen_edges(graph, keep)
        parts = self.model.attention(cells, sources, self._asked(graph), graph, loops=loops, near=near)
        senders: Tensor = self.encoder.identities(inputs.content.take(len(sources.h)))
        question = torch.zeros(graph.num_seeds, 1, dtype=torch.int64, device=senders.device)
        yield from named(parts, question, senders)

    def _asked(self, graph: Subgraph) -> Tokens:
        """The question, put to every seed."""
        question = self.question.expand(graph.num_seeds, 1, -1)
        return Tokens(question, torch.ones(question.shape[:2], dtype=torch.bool, device=question.device))


class ClassificationTask(Task):
    """Classify nodes; -1 in ``data.y`` marks nodes without a label, which are in no part of the split.

    Metrics are accuracy, F1 averaged over classes by their frequency (``f1``) and equally (``f1_macro``), and for
    two classes, in tasks that rank them, the area under the ROC curve of class 1 (``roc_auc``), which is then the
    monitored one.

    Parameters
    ----------
    num_classes
        C.
    class_weights
        ``none``, or ``balanced``: training nodes weigh inversely to the frequency of their class.
    measured
        What was measured on training nodes for encoders; with ``class_count``, a whole :meth:`state`.

    Raises
    ------
    FIMPError
        If the area under the ROC curve is monitored, and all nodes to train or validate on are of one class.
    """

    #: Whether two classes are scored by the area under the ROC curve.
    ranks_two_classes: ClassVar[bool] = False

    def __init__(self, num_classes: int, class_weights: str, measured: dict[str, Any]) -> None:
        self.num_classes = num_classes
        self.metrics = {"accuracy": "max", "f1": "max", "f1_macro": "max"}
        self.monitor = "accuracy"
        if num_classes == 2 and self.ranks_two_classes:
            self.metrics, self.monitor = {**self.metrics, "roc_auc": "max"}, "roc_auc"
        self.measured = measured
        if "class_count" not in measured:
            if self.monitor == "roc_auc":
                self._check_parts()
            of_train = self.data.y[torch.from_numpy(self.split["train"])]
            self.measured = {**measured, "class_count": torch.bincount(of_train, minlength=num_classes)}
        count = self.measured["class_count"].double()
        self.log_prior = ((count + 1.0) / (count + 1.0).sum()).log().float()
        weight = torch.ones(num_classes)
        if class_weights == "balanced":
            weight = (count.sum() / ((count > 0).sum() * count.clamp(min=1))).float()
        self.class_weight = weight

    def _check_parts(self) -> None:
        # Without both classes a part has no such area: every epoch would be as good as none.
        for part, nodes in self.split.items():
            found = self.data.y[torch.from_numpy(nodes)].unique().tolist()
            if part != "test" and len(found) < 2:
                remedy = "label more nodes of the other class, or " if self.data.get("train_mask") is None else ""
                raise FIMPError(
                    f"{self.data.name}: the {PART_NAMES[part]} part of seed {self.seed} has nodes of class {found[0]} "
                    f"only, wanted both classes, as models are chosen by ROC AUC; {remedy}give masks that put both "
                    "classes into every part"
                )

    def shown(self, nodes: NDArray[np.int64]) -> Any:
        """Inputs of some nodes as evaluation sees them."""
        return self.inputs(nodes, EVALUATION)

    def state(self) -> dict[str, Any]:
        """What encoders need, and how often each class occurs in training."""
        return self.measured

    def loss(self, prediction: Tensor, inputs: Labelled) -> Tensor:
        """Cross-entropy of the seeds."""
        weight = self.class_weight.to(prediction.device)
        return nn.functional.cross_entropy(prediction, inputs.labels, weight)

    def loss_weight(self, prediction: Tensor, inputs: Labelled) -> Tensor:
        """Sum of the weights of the seeds' classes."""
        return self.class_weight.to(prediction.device)[inputs.labels].sum()

    def outcome(self, prediction: Tensor, inputs: Labelled) -> tuple[Tensor, ...]:
        """Seed, scores and class."""
        return torch.arange(len(prediction), device=prediction.device), prediction, inputs.labels

    def score(self, outcome: tuple[Tensor, ...]) -> dict[str, float]:
        """Accuracy, F1 and, for two classes, the area under the ROC curve; NaN where a score does not exist."""
        _, scores, truth = outcome
        count = self.num_classes
        values = {
            "accuracy": multiclass_accuracy(scores, truth, count, average="micro"),
            "f1": multiclass_f1_score(scores, truth, count, average="weighted"),
            "f1_macro": multiclass_f1_score(scores, truth, count, average="macro"),
        }
        if "roc_auc" in self.metrics:
            # torchmetrics would put the scores through a sigmoid in single precision, where confident ones tie.
            score = (scores[:, 1] - scores[:, 0]).double().numpy()
            auroc = weighted_auroc(score, truth.numpy() == 1, np.ones((1, len(score))))
            values["roc_auc"] = torch.from_numpy(auroc)
        return {name: float(value) for name, value in values.items()}

    def node_statistics(self, outcome: tuple[Tensor, ...]) -> NDArray[np.float64]:
        """Whether a node is classified right, or for two classes its score and class: ``[n, 1 or 2]``."""
        order = outcome[0].argsort()
        scores, truth = outcome[1][order].double().numpy(), outcome[2][order].numpy()
        if self.monitor == "accuracy":
            return (scores.argmax(1) == truth).astype(np.float64)[:, None]
        return np.stack([scores[:, 1] - scores[:, 0], truth], axis=1)

    def resampled(self, statistics: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracy or ROC AUC of resampled nodes; see :meth:`fimp.tasks.Task.resampled`."""
        if self.monitor == "accuracy":
            out: NDArray[np.float64] = weights @ statistics[:, 0] / weights.sum(1)
            return out
        return weighted_auroc(statistics[:, 0], statistics[:, 1] == 1, weights)


def weighted_auroc(
    score: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the ROC curve under several weightings of the same scores.

    Parameters
    ----------
    score
        ``[n]``.
    positive
        ``[n]``.
    weights
        ``[draws, n]``.

    Returns
    -------
    ndarray
        ``[draws]``; NaN where a draw has one class only.
    """
    level = np.unique(score, return_inverse=True)[1]
    order = np.argsort(level, kind="stable")
    starts = np.flatnonzero(np.diff(level[order], prepend=-1))

    def per_level(which: NDArray[np.bool_]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.add.reduceat((weights * which)[:, order], starts, axis=1)
        return total

    up, down = per_level(positive), per_level(~positive)
    below = np.cumsum(down, axis=1) - 0.5 * down
    pairs = up.sum(1) * down.sum(1)
    out: NDArray[np.float64] = (up * below).sum(1) / np.where(pairs > 0, pairs, np.nan)
    return out
