"""Masked autoencoders on samples without a graph: what pretraining of images and recordings shares."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.splits import TRAIN_SHARE
from fimp.models.registry import Backbone, Hyperparameters, ModelChoice, ModelSpec
from fimp.tasks.base import Network, Task
from fimp.train.fit import Fitted, fit
from fimp.train.options import TrainOptions


class Filled(NamedTuple):
    """What a masked autoencoder makes of a batch.

    Attributes
    ----------
    predicted, target
        Content of every token, ``[n, T, values]``.
    mask
        True where the model did not see the token, ``[n, T]``.
    """

    predicted: Tensor
    target: Tensor
    mask: Tensor

    def cpu(self) -> Filled:
        """All parts on the CPU."""
        return Filled(*(part.cpu() for part in self))


class MaskedPretraining(Task):
    """Predict the hidden tokens of samples, each on its own; an eighth of the samples validates.

    A subclass says what a sample shows (:meth:`fimp.tasks.Task.inputs`, with the noise that decides what is hidden) and
    makes the network, which returns :class:`Filled`.

    Parameters
    ----------
    samples
        Number of samples.
    seed
        Seed of split, masks and initial weights.
    groups
        Samples of one group stay together in training or validation, ``[samples]``; each is its own by default.
    """

    name: ClassVar[str] = "pretraining"

    def __init__(self, samples: int, seed: int, groups: NDArray[np.int64] | None = None) -> None:
        self.metrics, self.monitor, self.seed = {"mse": "min", "r2": "max"}, "r2", seed
        self.data = Data(edge_index=torch.zeros(2, 0, dtype=torch.int64), num_nodes=samples)
        self.split = split_groups(np.arange(samples) if groups is None else groups, seed)

    @abstractmethod
    def network(self, choice: ModelChoice) -> Network:
        """A new model."""

    def state(self) -> dict[str, Any]:
        """Nothing that is not in the model."""
        return {}

    def loss(self, prediction: Filled, inputs: Any) -> Tensor:
        """Mean squared error of the hidden tokens."""
        return (prediction.predicted - prediction.target)[prediction.mask].square().mean()

    def loss_weight(self, prediction: Filled, inputs: Any) -> Tensor:
        """Number of hidden tokens."""
        return prediction.mask.sum()

    def outcome(self, prediction: Filled, inputs: Any) -> tuple[Tensor, ...]:
        """Seed; number, sum and sum of squares of its hidden values; its squared error."""
        hidden = prediction.mask[:, :, None]
        target = torch.where(hidden, prediction.target.double(), 0.0)
        error = torch.where(hidden, (prediction.predicted - prediction.target).double(), 0.0)
        count = prediction.mask.sum(1).double() * prediction.target.size(2)
        parts = count, target.sum((1, 2)), target.square().sum((1, 2)), error.square().sum((1, 2))
        return torch.arange(len(count)), torch.stack(parts, 1)

    def score(self, outcome: tuple[Tensor, ...]) -> dict[str, float]:
        """Mean squared error and R2 over all hidden values."""
        count, first, second, error = outcome[1].sum(0).tolist()
        spread = second - first**2 / max(count, 1.0)
        return {
            "mse": error / count if count else float("nan"),
            "r2": 1.0 - error / spread if spread > 1e-12 else float("nan"),
        }

    def node_statistics(self, outcome: tuple[Tensor, ...]) -> NDArray[np.float64]:
        """Those of :meth:`outcome`."""
        return outcome[1].numpy()

    def resampled(self, statistics: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """R2 of resampled samples."""
        count, first, second, error = (weights @ statistics).T
        spread = second - first**2 / np.maximum(count, 1.0)
        out: NDArray[np.float64] = 1.0 - error / np.where(spread > 0, spread, np.nan)
        return out


def split_groups(groups: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int64]]:
    """Seven eighths of the groups train and the others, at least one of several, validate; there is no test part."""
    names = np.unique(groups)
    order = np.random.default_rng([seed, 29]).permutation(names)
    train = order[: min(round(TRAIN_SHARE * len(order)), max(1, len(order) - 1))]
    chosen = np.isin(groups, train)
    # A single group has to do for both.
    val = np.flatnonzero(~chosen) if not chosen.all() else np.flatnonzero(chosen)
    return {"train": np.flatnonzero(chosen), "val": val, "test": val}


def fit_new(task: Task, train: TrainOptions, lr: float, folder: Path | None, **arguments: Any) -> Fitted:
    """Train the new foundation model of a task.

    Parameters
    ----------
    task
        The pretraining; its networks hold the model, so that no other is built.
    train, lr
        How, and the peak learning rate.
    folder, **arguments
        As for :func:`fimp.train.fit.fit`, resume included.
    """
    spec = ModelSpec("new", "a new foundation model", "foundation", Backbone)
    choice = ModelChoice("new", spec, None, Hyperparameters(lr=lr, weight_decay=1e-2))
    return fit(task, choice, train, folder, **arguments)
