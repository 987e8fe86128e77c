"""Several processes that train one model together (``torchrun``)."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


class Work(Protocol):
    """What the first process hands out to all: :class:`fimp.train.workers.Job`."""

    def run(self, listener: Any) -> Any:
        """Do it."""
        ...


def start() -> None:
    """Join the other processes that ``torchrun`` started; what trains from then on does so together with them.

    In a script of one's own, call it first, and then the same functions in every process.
    """
    if dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    # Threads of the group that outlive the interpreter end the process with an error.
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """Processes that train together; 1 for one on its own."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if count() > 1 else 0


def leads() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def wait() -> None:
    """Wait until all are here."""
    if count() > 1:
        dist.barrier()


def total(value: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over processes, without gradient."""
    value = value.detach().clone()
    if count() > 1:
        dist.all_reduce(value)
    return value


def of_first(value: T) -> T:
    """What the first process has, for all."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def in_turn(own: Sequence[T]) -> list[T]:
    """Items of all processes: the first of each, the second of each, and so on."""
    if count() == 1:
        return list(own)
    every: list[Sequence[T]] = [()] * count()
    dist.all_gather_object(every, own)
    nothing = object()
    turns = zip_longest(*every, fillvalue=nothing)
    return [item for turn in turns for item in turn if item is not nothing]  # type: ignore[misc]


def hand_out(job: Work, listener: Any) -> Any:
    """Do a job together with the processes that :func:`follow`; returns this one's result."""
    of_first(job)
    return job.run(listener)


def follow() -> None:
    """Do what the first process hands out, until it has no more."""
    while (job := of_first(None)) is not None:
        job.run(lambda share, text: None)


def release() -> None:
    """Let those that :func:`follow` end."""
    of_first(None)
