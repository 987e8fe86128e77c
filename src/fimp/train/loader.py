"""Batches of seeds with the subgraphs and inputs they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from fimp.data.masking import EVALUATION
from fimp.data.subgraph import Subgraph
from fimp.tasks.base import Task
from fimp.train.sampler import NeighborSampler

#: Seeds per batch in evaluation: fixed, so that scores do not depend on the training batch size.
EVALUATION_BATCH = 256


class Batch(NamedTuple):
    """Inputs of all nodes of a subgraph, and the subgraph; its first nodes are the seeds."""

    inputs: Any
    graph: Subgraph

    @property
    def seeds(self) -> Any:
        """Inputs of the seeds."""
        return self.inputs.take(self.graph.num_seeds)


class _Seeds(Sampler[tuple[int, NDArray[np.int64]]]):
    """Yields (epoch, seeds). Lightning tells it the epoch through ``set_epoch``."""

    def __init__(self, nodes: NDArray[np.int64], batch_size: int, seed: int, shuffle: bool) -> None:
        self.nodes, self.batch_size, self.seed, self.shuffle = nodes, batch_size, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        nodes, epoch = self.nodes, EVALUATION
        if self.shuffle:
            nodes, epoch = np.random.default_rng([self.seed, 3, self.epoch]).permutation(nodes), self.epoch
        for start in range(0, len(nodes), self.batch_size):
            yield epoch, nodes[start : start + self.batch_size]

    def __len__(self) -> int:
        return -(-len(self.nodes) // self.batch_size)


class _Batches(Dataset[Batch]):
    def __init__(self, task: Task, sampler: NeighborSampler) -> None:
        self.task, self.sampler = task, sampler

    def __getitem__(self, key: tuple[int, NDArray[np.int64]]) -> Batch:
        epoch, seeds = key
        graph = self.sampler.sample(seeds, epoch)
        return Batch(self.task.inputs(graph.nodes, epoch), graph)


def training_loader(task: Task, sampler: NeighborSampler, batch_size: int) -> DataLoader[Batch]:
    """Shuffled training seeds, drawn anew in every epoch."""
    seeds = _Seeds(task.split["train"], batch_size, task.seed, shuffle=True)
    return DataLoader(_Batches(task, sampler), sampler=seeds, batch_size=None)


def evaluation_loader(task: Task, sampler: NeighborSampler, nodes: NDArray[np.int64]) -> DataLoader[Batch]:
    """Given seeds in order, with the fixed evaluation draw and whole neighbourhoods."""
    seeds = _Seeds(nodes, EVALUATION_BATCH, task.seed, shuffle=False)
    return DataLoader(_Batches(task, sampler), sampler=seeds, batch_size=None)
