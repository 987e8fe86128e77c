"""One run of a comparison, from its configuration to its folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fimp.errors import FIMPError
from fimp.tasks.base import Task
from fimp.train import processes
from fimp.train.checkpoint import load_tree, save_tree
from fimp.train.evaluation import outcomes
from fimp.train.fit import Fitted, fit
from fimp.train.pretrain import PRETRAINED
from fimp.train.runs import WEIGHTS, RunConfig, weights_tree, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

#: Per test node, what the monitored metric needs; within a run's folder.
STATISTICS = "statistics.safetensors"

#: What a figure shows of a run, where its task has such a figure; within the run's folder.
EXAMPLE = "example.safetensors"


@dataclass(frozen=True)
class Run:
    """A run to be done; a :class:`fimp.train.workers.Job`.

    Attributes
    ----------
    index
        Number of the run within its comparison.
    config
        What determines it.
    folder
        Where it goes.
    budget_seconds
        Time for training and evaluation, or None.
    """

    index: int
    config: RunConfig
    folder: Path
    budget_seconds: float | None = None

    @property
    def title(self) -> str:
        """Model and seed."""
        return f"{self.config.model}, seed {self.config.seed}"

    def run(self, listener: Callable[[float, str], None]) -> dict[str, Any]:
        """Train, evaluate and write the run; goes on from its last finished epoch where there is one.

        Returns
        -------
        dict
            The run's entry in ``results.json``.
        """
        config, folder = self.config, self.folder
        if processes.leads():
            config.save(folder)
        begun = time.monotonic()
        with threads(config.threads):
            task = config.make_task(config.read())
            # What the final evaluation will take is known only from doing it once; a share of a budget is kept.
            training = None if self.budget_seconds is None else 0.9 * self.budget_seconds
            fitted = fit(
                task, config.choice, config.train, folder, budget_seconds=training, resume=True, listener=listener
            )
            listener(1.0, "test")
            outcome = outcomes(task, config.choice, fitted.network, task.split["test"], config.train)
        result = {
            "model": config.model,
            "seed": config.seed,
            "metrics": task.score(outcome),
            "epochs": fitted.epochs,
            "steps": fitted.steps,
            "train_seconds": round(fitted.train_seconds, 3),
            "seconds": round(time.monotonic() - begun, 3),
            "peak_memory_mb": round(fitted.peak_memory_mb, 1),
        }
        if processes.leads():
            self._write(task, fitted, outcome, result)
        return result

    def _write(self, task: Task, fitted: Fitted, outcome: tuple[Tensor, ...], result: dict[str, Any]) -> None:
        """Write everything but the configuration, and remove what only going on with the run would need."""
        config, folder = self.config, self.folder
        kept = {"statistics": task.node_statistics(outcome), "units": task.units(outcome)}
        save_tree({name: torch.from_numpy(values) for name, values in kept.items()}, folder / STATISTICS)
        shown = task.example(outcome)
        if shown is not None:
            save_tree(shown, folder / EXAMPLE)
        if self.budget_seconds is not None:
            replace(config, **fitted.shortened).save(folder)
        checkpoints = folder / "checkpoints"
        # Final weights take the place of a checkpoint that training would go on with. So it must find none: a run that
        # is cut off here begins anew. Hidden files are what a process was writing when it was killed.
        for path in (checkpoints / "last.safetensors", checkpoints / PRETRAINED, *checkpoints.glob(".*")):
            path.unlink(missing_ok=True)
        save_tree(weights_tree(task, fitted.network, fitted.epochs, task.data.reference), folder / WEIGHTS)
        write_json(folder / "results.json", result)


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run, or None."""
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def node_statistics(folder: Path) -> NDArray[np.float64]:
    """What a finished run keeps per test node."""
    out: NDArray[np.float64] = load_tree(folder / STATISTICS)["statistics"].numpy()
    return out


def tested_units(folder: Path) -> NDArray[np.int64]:
    """Which nodes these are; see :meth:`fimp.tasks.Task.units`."""
    out: NDArray[np.int64] = load_tree(folder / STATISTICS)["units"].numpy()
    return out


def example(folder: Path) -> dict[str, Tensor] | None:
    """What a figure shows of a finished run, if anything (:meth:`fimp.tasks.Task.example`)."""
    path = folder / EXAMPLE
    return load_tree(path) if path.exists() else None


def available_cores() -> int:
    """Cores that this process may use: what ``OMP_NUM_THREADS`` allows, or those it is bound to."""
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(jobs: int | None, most: int, accelerator: str) -> tuple[int, int]:
    """How many of ``most`` jobs go side by side, and how many threads each gets.

    Parameters
    ----------
    jobs
        What the user asked for; None takes as many as there are cores, or one on a GPU.
    most
        Number of jobs there are.
    accelerator
        ``cpu`` or ``cuda``.

    Raises
    ------
    FIMPError
        If ``jobs`` is below 1.
    """
    if jobs is not None and jobs < 1:
        raise FIMPError(f"--jobs: {jobs} is below 1; use 2, for instance")
    if processes.count() > 1:
        if jobs not in (None, 1):
            raise FIMPError(f"--jobs: {jobs}, but processes that torchrun started do one run at a time; leave it out")
        return 1, max(1, available_cores() // int(os.environ["LOCAL_WORLD_SIZE"]))
    cores = available_cores()
    count = jobs if jobs is not None else 1 if accelerator == "cuda" else cores
    count = max(1, min(count, most))
    return count, max(1, cores // count)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads: another number rounds sums differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
