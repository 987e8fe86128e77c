"""Run folders: everything needed to repeat a run, and what came out of it."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from torch_geometric.data import Data

import fimp
from fimp.errors import FIMPError
from fimp.models.checkpoints import FileMark
from fimp.models.registry import Hyperparameters, ModelChoice, resolve
from fimp.tasks.base import Network, Task, TaskKind, known_tasks
from fimp.train import processes
from fimp.train.digest import digest
from fimp.train.options import TrainOptions

#: Weights of a finished run, within its folder.
WEIGHTS = "checkpoints/best.safetensors"


@dataclass(frozen=True)
class RunConfig:
    """What determines a run.

    Attributes
    ----------
    task
        Name of the task.
    source
        Path of the data file (or of each of several), name of a dataset, or None for data handed over in memory.
    data, options, train
        How the data is read, the task's settings, and how the model is trained.
    model, hyperparameters
        The model.
    files
        The files that its name stands for, as they were; None where it stands for none.
    seed
        Seed of split, draws and weights.
    threads
        Threads of a run on a CPU: sums are rounded differently by another number of them.
    processes
        Processes that train together, each with a batch of its own.
    planned_steps, steps, pretraining_steps
        Where a time budget put the end of the schedule, and the steps it let the run take; None where
        no budget interfered.
    data_digest
        What the content of the data was (:func:`fimp.train.digest.digest`); None where it is not known or was handed
        over in memory.
    """

    task: str
    source: str | list[str] | None
    data: Any
    options: Any
    train: TrainOptions
    model: str
    hyperparameters: Hyperparameters
    seed: int
    files: FileMark | None = None
    threads: int = 1
    planned_steps: int | None = None
    steps: int | None = None
    pretraining_steps: int | None = None
    processes: int = field(default_factory=processes.count)
    version: str = field(default_factory=lambda: fimp.__version__)
    data_digest: str | None = None

    @property
    def choice(self) -> ModelChoice:
        """The model, understood."""
        choice = replace(resolve(self.model), hyperparameters=self.hyperparameters)
        return choice if self.files is None else choice.at(self.files)

    def of(self, choice: ModelChoice, **changes: Any) -> RunConfig:
        """The same with another model."""
        return replace(self, model=choice.name, hyperparameters=choice.hyperparameters, files=choice.files, **changes)

    def check_files(self) -> None:
        """Refuse to use a trained model with files other than those that it was trained with.

        Raises
        ------
        FIMPError
            If they are gone or were changed.
        """
        if self.files is None:
            return
        if not Path(self.files.path).exists():
            raise FIMPError(f"{self.files.path}: gone, but {self.model} was trained with it; put it back")
        if FileMark.of(self.files.path, self.files.mapping) != self.files:
            raise FIMPError(
                f"{self.files.path}: changed since {self.model} was trained with it; put it back, or train again"
            )

    @property
    def kind(self) -> TaskKind:
        """The kind of task."""
        return known_tasks()[self.task]

    def read(self) -> Data:
        """The graph; read once per process, however many runs ask for it.

        Raises
        ------
        FIMPError
            If the data cannot be used, or are others than the run is known to be of.
        """
        key = self._key()
        data = _read(*key)
        if self.data_digest is not None and _digest(*key) != self.data_digest:
            raise FIMPError(
                f"{self.data_name}: changed since {self.model} was trained on it; put it back, or train again"
            )
        return data

    def digest(self) -> str | None:
        """The :func:`~fimp.train.digest.digest` of the data as they are now; computed once per process.

        Raises
        ------
        FIMPError
            If the data cannot be used.
        """
        return _digest(*self._key())

    @property
    def data_name(self) -> str:
        """What the data are called in messages."""
        return ", ".join(self.source) if isinstance(self.source, list) else str(self.source)

    def _key(self) -> tuple[str, Any, tuple[Any, ...], Any]:
        source = tuple(self.source) if isinstance(self.source, list) else self.source
        return self.task, source, _stamps(self.source), self.data

    def make_task(self, data: Data) -> Task:
        """The task on a graph."""
        return self.kind.make(data, self.options, self.seed, None)

    def save(self, folder: Path) -> None:
        """Write ``config.yaml``."""
        write_text(folder / "config.yaml", yaml.safe_dump(asdict(self), sort_keys=False))

    @classmethod
    def load(cls, folder: Path) -> RunConfig:
        """Read ``config.yaml``.

        Raises
        ------
        FIMPError
            If there is none, or it does not describe a run.
        """
        path = Path(folder) / "config.yaml"
        try:
            stored = yaml.safe_load(path.read_text())
            kind = known_tasks()[stored["task"]]
            return cls(
                **{
                    **stored,
                    "data": kind.data_options(**stored["data"]),
                    "options": kind.options(**stored["options"]),
                    "train": TrainOptions(**stored["train"]),
                    "hyperparameters": Hyperparameters(**stored["hyperparameters"]),
                    "files": FileMark(**stored["files"]) if stored.get("files") else None,
                }
            )
        except FileNotFoundError as error:
            raise FIMPError(f"{folder}: no run folder (config.yaml is missing); pass DIR/runs/MODEL/seedK") from error
        except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise FIMPError(f"{path}: does not describe a run ({error}); train again") from error


@functools.lru_cache(maxsize=4)
def _read(task: str, source: Any, stamps: tuple[Any, ...], options: Any) -> Data:
    return known_tasks()[task].read(list(source) if isinstance(source, tuple) else source, options, None)


@functools.lru_cache(maxsize=4)
def _digest(task: str, source: Any, stamps: tuple[Any, ...], options: Any) -> str | None:
    return digest(list(source) if isinstance(source, tuple) else source, _read(task, source, stamps, options))


def _stamps(source: str | list[str] | None) -> tuple[Any, ...]:
    """Time and size of each file: a file that was written anew is read anew."""
    names = source if isinstance(source, list) else [source or ""]
    files = [Path(name) for name in names]
    return tuple((file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None for file in files)


def weights_tree(task: Task, network: Network, epochs: int, reference: Any) -> dict[str, Any]:
    """What ``WEIGHTS`` holds: everything that prediction on other data needs besides the configuration.

    ``reference`` is that of the data it was trained on (:class:`fimp.tasks.base.TaskKind`).
    """
    return {
        "state_dict": network.state_dict(),
        "epochs": epochs,
        "task": task.state(),
        "reference": asdict(reference),
    }


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; numbers that do not exist become null."""
    write_text(path, json.dumps(_finite(content), indent=2) + "\n")


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not abs(node) < float("inf") else node
