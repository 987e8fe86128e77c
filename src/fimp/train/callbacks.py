"""Time budget, metrics file and progress."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from fimp.train import processes
from fimp.train.module import NodeModule


class Clock(Callback):
    """Counts training time over all sittings, and ends a run that its time budget or its plan ends.

    With a budget, the schedule is fitted to it once: after the warm-up (whose learning rates do not depend on
    the plan) the time per step is known, and ``planned_steps`` becomes what the budget pays for.

    Parameters
    ----------
    budget_seconds
        Time for training and validation, or None.
    stop_after
        End after this many steps whatever the clock says: the repetition of a run that was cut short.
    keep_plan
        Take all steps of the fitted plan, even if they last a little longer than the budget. The steps taken
        are then all that it takes to repeat the run.
    """

    def __init__(self, budget_seconds: float | None, stop_after: int | None, keep_plan: bool = False) -> None:
        self.budget_seconds, self.stop_after, self.keep_plan = budget_seconds, stop_after, keep_plan
        self._before = 0.0
        self._fitted = False

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start, or go on from the time that earlier sittings took."""
        assert isinstance(module, NodeModule)
        self._start, self._before = time.monotonic(), module.spent_seconds
        self._start_step = trainer.global_step
        self._fitted = trainer.global_step >= module.warmup > 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Fit the plan to the budget, and stop where either ends."""
        assert isinstance(module, NodeModule)
        here = time.monotonic() - self._start
        if self.budget_seconds is not None:
            # Clocks differ; all have to stop at the same step.
            here = processes.of_first(here)
        module.spent_seconds = self._before + here
        step = trainer.global_step
        if self.budget_seconds is not None:
            if not self._fitted and step >= module.warmup:
                self._fitted = True
                per_step = here / max(1, step - self._start_step)
                affordable = step + int((self.budget_seconds - here) / max(per_step, 1e-9))
                module.planned_steps = max(step, min(module.planned_steps, affordable))
            if here >= self.budget_seconds and not (self.keep_plan and self._fitted):
                trainer.should_stop = True
        if step >= module.planned_steps or step == self.stop_after:
            trainer.should_stop = True


class MetricsFile(Callback):
    """Appends a row per epoch to ``metrics.csv``; a resumed run drops rows of epochs that are repeated."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Keep the rows of finished epochs."""
        rows = read_metrics(self.path) if trainer.current_epoch else []
        self.rows: list[dict[str, Any]] = [row for row in rows if int(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the epoch's row."""
        values = {key: f"{float(value):.6g}" for key, value in sorted(trainer.callback_metrics.items())}
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **values})
        if not trainer.is_global_zero:
            return
        fields = list(dict.fromkeys(field for row in self.rows for field in row))
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(self.rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a ``metrics.csv``; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Report(Callback):
    """Tells a listener how far the run is: ``listener(share, text)`` after batches and epochs."""

    def __init__(self, listener: Callable[[float, str], None], monitor: str) -> None:
        self.listener, self.monitor = listener, monitor

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Report the share of planned steps."""
        assert isinstance(module, NodeModule)
        score = trainer.callback_metrics.get(f"val_{self.monitor}")
        text = f"epoch {trainer.current_epoch + 1}"
        if score is not None:
            text += f", validation {self.monitor} {float(score):.3f}"
        self.listener(min(1.0, trainer.global_step / max(1, module.planned_steps)), text)


class Validated(Callback):
    """Tells the score of every validation."""

    def __init__(self, on_validation: Callable[[float], None], monitor: str) -> None:
        self.on_validation, self.monitor = on_validation, monitor

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Pass on the score."""
        score = trainer.callback_metrics.get(f"val_{self.monitor}")
        if score is not None:
            self.on_validation(float(score))


class BestCheckpoint(ModelCheckpoint):
    """``best`` by the monitored metric and ``last`` after every epoch, in safetensors files."""

    FILE_EXTENSION = ".safetensors"

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=f"val_{monitor}",
            mode=mode,
            save_top_k=1,
            save_last=True,
            enable_version_counter=False,
        )


def early_stopping(monitor: str, mode: str, patience: int) -> EarlyStopping:
    """Stop after ``patience`` validations without improvement; a score that is not a number stops at once."""
    return EarlyStopping(f"val_{monitor}", mode=mode, patience=patience, check_finite=False)
