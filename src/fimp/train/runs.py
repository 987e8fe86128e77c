"""Run folders: everything needed to repeat a run, and what came out of it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

import fimp
from fimp.data.cells import CellOptions
from fimp.errors import FIMPError
from fimp.models.registry import Hyperparameters, ModelChoice, resolve
from fimp.tasks.expression import ExpressionOptions
from fimp.train.fit import TrainOptions

#: Weights of a finished run, within its folder.
WEIGHTS = "checkpoints/best.safetensors"
#: Option classes of each task, by its name.
TASK_OPTIONS = {"expression": ExpressionOptions}


@dataclass(frozen=True)
class RunConfig:
    """What determines a run.

    Attributes
    ----------
    task
        Name of the task.
    source
        Path of the data file, name of a dataset, or None for data handed over in memory.
    data, options, train
        How the data is read, the task's settings, and how the model is trained.
    model, hyperparameters
        The model.
    seed
        Seed of split, draws and weights.
    planned_steps, steps, pretraining_steps
        Where a time budget put the end of the schedule, and the steps it let the run take; None where
        no budget interfered.
    """

    task: str
    source: str | None
    data: CellOptions
    options: ExpressionOptions
    train: TrainOptions
    model: str
    hyperparameters: Hyperparameters
    seed: int
    planned_steps: int | None = None
    steps: int | None = None
    pretraining_steps: int | None = None
    version: str = field(default_factory=lambda: fimp.__version__)

    @property
    def choice(self) -> ModelChoice:
        """The model, understood."""
        return replace(resolve(self.model), hyperparameters=self.hyperparameters)

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
            return cls(
                **{
                    **stored,
                    "data": CellOptions(**stored["data"]),
                    "options": TASK_OPTIONS[stored["task"]](**stored["options"]),
                    "train": TrainOptions(**stored["train"]),
                    "hyperparameters": Hyperparameters(**stored["hyperparameters"]),
                }
            )
        except FileNotFoundError as error:
            raise FIMPError(f"{folder}: no run folder (config.yaml is missing); pass DIR/runs/MODEL/seedK") from error
        except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise FIMPError(f"{path}: does not describe a run ({error}); train again") from error


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
