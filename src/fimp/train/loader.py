"""Batches of seeds with the subgraphs and inputs they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fimp.data.masking import EVALUATION
from fimp.data.subgraph import Subgraph
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Task
from fimp.train import processes
from fimp.train.sampler import NeighborSampler

#: Seeds per batch in evaluation: fixed, so that scores do not depend on the training batch size.
EVALUATION_BATCH = 256
#: Adjacent seeds that enter a training batch together.
GROUP = 16


class Batch(NamedTuple):
    """Inputs of all nodes of a subgraph, and the subgraph; its first nodes are the seeds.

    Of several processes, some may be left without seeds at the end: they get some that do not count.
    """

    inputs: Any
    graph: Subgraph
    counts: bool = True

    @property
    def seeds(self) -> Any:
        """Inputs of the seeds."""
        return self.inputs.take(self.graph.num_seeds)


class _Share(NamedTuple):
    """What a process gets of a batch: epoch, seeds, seeds of all processes, and whether its seeds count."""

    epoch: int
    seeds: NDArray[np.int64]
    of_all: int
    counts: bool


class _Seeds(Sampler[_Share]):
    """Yields the share of this process. Lightning tells it the epoch through ``set_epoch``.

    In training, processes share the seeds of every batch; in evaluation each takes whole batches in turn, so that no
    score depends on how many there are.
    """

    def __init__(
        self,
        nodes: NDArray[np.int64],
        batch_size: int,
        seed: int,
        shuffle: bool,
        positions: NDArray[np.floating] | None = None,
        together: int = 1,
    ) -> None:
        self.nodes, self.batch_size, self.seed, self.shuffle = nodes, whole(batch_size, together), seed, shuffle
        self.positions, self.together = positions, together
        self.rank, self.processes = processes.rank(), processes.count()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[_Share]:
        nodes, epoch = self.nodes, EVALUATION
        if self.shuffle:
            epoch, generator = self.epoch, np.random.default_rng([self.seed, 3, self.epoch])
            nodes = generator.permutation(nodes.reshape(-1, self.together)).ravel()
            if self.positions is not None:
                nodes = group_nearby(nodes, self.positions, generator)
        starts = range(0, len(nodes), self.batch_size)
        if self.shuffle:
            for start in starts:
                batch = nodes[start : start + self.batch_size]
                share = self._share(batch)
                yield _Share(epoch, share if len(share) else batch[: self.together], len(batch), len(share) > 0)
        else:
            for turn in range(len(self)):
                place = turn * self.processes + self.rank
                start = starts[place] if place < len(starts) else 0
                batch = nodes[start : start + self.batch_size]
                yield _Share(epoch, batch, len(batch), place < len(starts))

    def _share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """The part of this process, of whole groups of nodes that are read together."""
        groups = -(-len(batch) // self.together)
        first, last = (groups * place // self.processes * self.together for place in (self.rank, self.rank + 1))
        return batch[first:last]

    def __len__(self) -> int:
        batches = -(-len(self.nodes) // self.batch_size)
        return batches if self.shuffle else -(-batches // self.processes)


class _Batches(Dataset[Batch]):
    def __init__(self, task: Task, sampler: NeighborSampler) -> None:
        self.task, self.sampler = task, sampler

    def __getitem__(self, share: _Share) -> Batch:
        graph = self.sampler.sample(share.seeds, share.epoch)._replace(seeds_of_all=share.of_all)
        return Batch(self.task.inputs(graph.nodes, share.epoch), graph, share.counts)


def whole(batch_size: int, together: int) -> int:
    """Seeds of a batch of whole groups of ``together`` nodes: no more than asked for, but one group at least."""
    return max(1, batch_size // together) * together


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
    seeds = _Seeds(task.split["train"], batch_size, task.seed, True, _positions(task), task.together)
    return DataLoader(_Batches(task, sampler), sampler=seeds, batch_size=None)


def pretraining_loader(task: Task, sampler: NeighborSampler, batch_size: int) -> DataLoader[Batch]:
    """The same with all nodes as seeds, whose vectors a model learns to reconstruct."""
    seeds = _Seeds(np.arange(task.data.num_nodes), batch_size, task.seed, True, _positions(task), task.together)
    return DataLoader(_Batches(task, sampler), sampler=seeds, batch_size=None)


def evaluation_loader(task: Task, sampler: NeighborSampler, nodes: NDArray[np.int64]) -> DataLoader[Batch]:
    """Given seeds in :func:`evaluation_order`, with the fixed evaluation draw and whole neighbourhoods."""
    seeds = _Seeds(evaluation_order(task, nodes), EVALUATION_BATCH, task.seed, False, together=task.together)
    return DataLoader(_Batches(task, sampler), sampler=seeds, batch_size=None)


def evaluation_order(task: Task, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nodes such that those that lie together follow each other, where they have places.

    The neighbourhoods of a batch then overlap: of nodes in random order, each would bring a neighbourhood of its own,
    and a batch would hold many times as many nodes.
    """
    positions = _positions(task)
    if positions is None or len(nodes) <= EVALUATION_BATCH:
        return nodes
    from scipy.spatial import cKDTree

    return nodes[cKDTree(positions[nodes]).indices]


def sampler_for(
    task: Task, choice: ModelChoice, hops: int, fanout: int, *, training: bool = False, edges: Tensor | None = None
) -> NeighborSampler:
    """The sampler of the subgraphs that a model is given.

    Parameters
    ----------
    task, choice
        Whose graph, and which model.
    hops
        Hops around the seeds.
    fanout
        Most in-neighbours per node in training. Evaluation uses all, except for models that compute every
        seed in a graph of its own, whose size it bounds.
    training
        Whether the sampler is for training.
    edges
        Edges in place of the task's, ``[2, E]``.
    """
    spec, given = choice.spec, task.edges(choice) if edges is None else edges
    limit = fanout if training or spec.egos else -1
    encoding = None if spec.encode is None else _encoding(task, choice, given)
    return NeighborSampler(given, task.data.num_nodes, [limit] * hops, task.seed, encoding=encoding, egos=spec.egos)


#: Encodings of the graphs in use: a run makes several samplers of one graph.
_encodings: WeakKeyDictionary[Task, dict[str, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def _encoding(task: Task, choice: ModelChoice, edges: Tensor) -> Tensor:
    assert choice.spec.encode is not None
    known = _encodings.setdefault(task, {})
    if choice.name not in known or not torch.equal(known[choice.name][0], edges):
        known[choice.name] = edges, choice.spec.encode(edges, task.data.num_nodes)
    return known[choice.name][1]


def _positions(task: Task) -> NDArray[np.floating] | None:
    positions = task.data.get("pos")
    return None if positions is None else positions.numpy()
