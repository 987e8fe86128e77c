"""A trained model and what it predicts for test nodes, as many as a picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fimp.analysis.classes import Classes
from fimp.analysis.layout import Layout, layout_of
from fimp.analysis.report.found import FoundRun
from fimp.data.recordings import Recordings
from fimp.estimators import GraphModel, load
from fimp.train.evaluation import outcomes

#: Test nodes that are predicted for pictures, and nodes that are embedded.
PREDICTED, EMBEDDED = 4000, 2000


@dataclass(frozen=True)
class View:
    """What pictures are made of.

    Attributes
    ----------
    model
        The model with its data.
    nodes
        Test nodes that were predicted, ascending ``[n]``.
    outcome
        What the task scores of them (:meth:`fimp.tasks.Task.outcome`).
    layout
        Where nodes are drawn.
    """

    model: GraphModel
    nodes: NDArray[np.int64]
    outcome: tuple[Tensor, ...]
    layout: Layout

    @classmethod
    def of(cls, run: FoundRun) -> View:
        """Load the run that is shown, and let it predict.

        Raises
        ------
        FIMPError
            If its data or its weights are gone.
        """
        model = load(run.shown)
        nodes = some(model.task.split["test"], PREDICTED, model.task.together)
        outcome = outcomes(model.task, model.choice, model.network, nodes, model.config.train)
        return cls(model, nodes, outcome, layout_of(model.task))

    @property
    def which(self) -> str:
        """Which nodes were predicted, for captions."""
        every = len(self.model.task.split["test"])
        kind = "regions of windows" if self.recordings is not None else self.model.nodes
        if len(self.nodes) == every:
            return f"all {every:,} test {kind}"
        return f"{len(self.nodes):,} of {every:,} test {kind}"

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes; None where the task has none."""
        data = self.model.task.data
        names = data.get("class_names") or data.get("classes")
        if names is None and data.get("num_classes"):
            names = [f"class {index}" for index in range(int(data.num_classes))]
        return None if names is None else [str(name) for name in names]

    def coloured(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], Classes] | None:
        """What colours nodes ``[n]``: their class, or of recordings the network of their region; None without either.

        Of recordings, nodes may be regions, or regions in windows.
        """
        task, names = self.model.task, self.class_names
        if names is not None:
            labels = task.data.y.numpy()
            return labels[nodes], Classes.of(labels, names)
        if self.recordings is None or self.recordings.regions.networks is None:
            return None
        found, codes = np.unique(np.array(self.recordings.regions.networks), return_inverse=True)
        return codes[nodes % len(codes)], Classes.of(codes, [str(name) for name in found])

    @property
    def recordings(self) -> Recordings | None:
        """The recordings; None for other data."""
        found: Recordings | None = self.model.data.get("recordings")
        return found

    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Node, class and predicted class of what was predicted by a task that classifies, ``[n]`` each."""
        node, scores, truth = (part.numpy() for part in self.outcome)
        return node, truth, scores.argmax(axis=1)


def some(nodes: NDArray[np.int64], most: int, together: int = 1) -> NDArray[np.int64]:
    """A random choice of nodes, the same every time; of nodes in groups, the first groups, one at least."""
    if len(nodes) <= most:
        return np.sort(nodes)
    if together > 1:
        return np.sort(nodes[: max(together, most // together * together)])
    return np.sort(np.random.default_rng(0).choice(nodes, most, replace=False))
