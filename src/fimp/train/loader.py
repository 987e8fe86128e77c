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
#: Adjacent seeds that enter a training batch together.
GROUP = 16


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

    def __init__(
        self,
        nodes: NDArray[np.int64],
        batch_size: int,
        seed: int,
        shuffle: bool,
        positions: NDArray[np.floating] | None = None,
    ) -> None:
        self.nodes, self.batch_size, self.seed, self.shuffle = nodes, batch_size, seed, shuffle
        self.positions = positions
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        nodes, epoch = self.nodes, EVALUATION
        if self.shuffle:
            epoch, generator = self.epoch, np.random.default_rng([self.seed, 3, self.epoch])
            nodes = generator.permutation(nodes)
            if self.positions is not None:
                nodes = group_nearby(nodes, self.positions, generator)
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


def group_nearby(
    nodes: NDArray[np.int64], positions: NDArray[np.floating], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Reorder shuffled nodes so that groups of about :data:`GROUP` adjacent ones follow each other.

    Seeds that lie together share neighbours: a batch of such groups needs a third of the nodes that a batch of
    scattered seeds needs, while its groups still come from all over the tissue.

    Parameters
    ----------
    nodes
        Shuffled nodes; the first ones become the centres of groups.
    positions
        Coordinates of all nodes ``[N, dimensions]``.
    generator
        Draws the order of the groups.
    """
    from scipy.spatial import cKDTree

    centres = nodes[: max(1, len(nodes) // GROUP)]
    group = cKDTree(positions[centres]).query(positions[nodes])[1]
    return nodes[np.argsort(generator.permutation(len(centres))[group], kind="stable")]


def training_loader(task: Task, sampler: NeighborSampler, batch_size: int) -> DataLoader[Batch]:
    """Training seeds in groups of adjacent ones, shuffled and grouped anew in every epoch."""
    positions = task.data.get("pos")
    seeds = _Seeds(task.split["train"], batch_size, task.seed, True, None if positions is None else positions.numpy())
    return DataLoader(_Batches(task, sampler), sampler=seeds, batch_size=None)


def evaluation_loader(task: Task, sampler: NeighborSampler, nodes: NDArray[np.int64]) -> DataLoader[Batch]:
    """Given seeds in order, with the fixed evaluation draw and whole neighbourhoods."""
    seeds = _Seeds(nodes, EVALUATION_BATCH, task.seed, shuffle=False)
    return DataLoader(_Batches(task, sampler), sampler=seeds, batch_size=None)
