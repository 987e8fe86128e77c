"""Predictions and scores of a network, batch after batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, Task
from fimp.train import processes
from fimp.train.loader import Batch, evaluation_loader, sampler_for
from fimp.train.module import concatenate, full, outcome_of
from fimp.train.options import TrainOptions


@torch.no_grad()
def predict_batches(
    task: Task, choice: ModelChoice, network: Network, nodes: NDArray[np.int64], options: TrainOptions
) -> Iterator[tuple[Tensor, Batch]]:
    """Predictions of a network for some nodes in evaluation mode: (prediction, batch) per batch, on the CPU.

    Of several processes, each gets the batches whose turn is its own. One batch after the other, so that memory holds
    the inputs of one, however many nodes there are.
    """
    sampler = sampler_for(task, choice, network.hops, options.fanout)
    device = torch.device(options.accelerator)
    was_training, before = network.training, next(network.parameters()).device
    network.to(device).eval()
    try:
        for batch in evaluation_loader(task, sampler, nodes):
            with options.autocast():
                prediction = network(batch.inputs.to(device), batch.graph.to(device))
            if batch.counts:
                yield full(prediction).cpu(), batch
    finally:
        network.to(before).train(was_training)


def evaluate(
    task: Task, choice: ModelChoice, network: Network, nodes: NDArray[np.int64], options: TrainOptions
) -> dict[str, float]:
    """Metrics of a network on some nodes.

    Parameters
    ----------
    task, choice, network
        The task, the model on its graph (with controls, if any), and its weights.
    nodes
        Indices ``[n]``.
    options
        Device and precision.

    Returns
    -------
    dict
        Of the task's metrics by name.
    """
    return task.score(outcomes(task, choice, network, nodes, options))


def outcomes(
    task: Task, choice: ModelChoice, network: Network, nodes: NDArray[np.int64], options: TrainOptions
) -> tuple[Tensor, ...]:
    """What :meth:`fimp.tasks.Task.score` needs of some nodes; the first tensor holds node indices."""
    pairs = predict_batches(task, choice, network, nodes, options)
    return concatenate(processes.in_turn([outcome_of(task, prediction, batch) for prediction, batch in pairs]))
