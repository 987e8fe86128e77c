"""Train one model for one seed, and score it."""

from __future__ import annotations

import logging
import signal
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import psutil
import torch
from lightning.pytorch.trainer.states import TrainerStatus
from numpy.typing import NDArray
from torch import Tensor

from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, Task
from fimp.train.averaging import WeightAverage
from fimp.train.callbacks import BestCheckpoint, Clock, MetricsFile, Report, early_stopping
from fimp.train.checkpoint import SafeCheckpointIO, load_weights, save_tree
from fimp.train.loader import Batch, evaluation_loader, training_loader
from fimp.train.module import NodeModule, concatenate
from fimp.train.sampler import NeighborSampler

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes
    ----------
    epochs
        Passes over the training nodes; None chooses (see :func:`default_epochs`).
    batch_size
        Seeds per step.
    patience
        Validations without improvement after which training stops.
    fanout
        Most in-neighbours that a node receives from in a training step; evaluation uses all.
    device
        ``auto``, ``cpu`` or ``cuda``.
    """

    epochs: int | None = None
    batch_size: int = 256
    patience: int = 15
    fanout: int = 16
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 0:
            raise FIMPError(f"--epochs: {self.epochs} is negative; use 50, for instance, or 0 for no training")
        if self.batch_size < 1:
            raise FIMPError(f"--batch-size: {self.batch_size} is below 1; use 256, for instance")
        if self.device not in DEVICES:
            raise FIMPError(f"--device: {self.device!r} is unknown; use {', '.join(DEVICES)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise FIMPError("--device: cuda is not available here; use --device cpu")

    @property
    def accelerator(self) -> str:
        """The device, decided."""
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device


#: Validations in a full run: often enough to stop early, rarely enough to cost little.
_VALIDATIONS = 30


def default_epochs(steps_per_epoch: int) -> int:
    """Epochs of a run that is given none: 60, but 300 to 800 steps, and 10 epochs however many steps they are."""
    steps = max(300, min(60 * steps_per_epoch, max(800, 10 * steps_per_epoch)))
    return -(-steps // steps_per_epoch)


@dataclass(frozen=True)
class Fitted:
    """A trained run.

    Attributes
    ----------
    network
        With the weights of its best validation.
    epochs, steps
        Epochs begun and optimizer steps taken.
    planned_steps
        Where the learning rate schedule ends.
    train_seconds
        Time in training and validation, over all sittings.
    peak_memory_mb
        Peak resident memory of the process during the run (of the GPU, where one is used).
    """

    network: Network
    epochs: int
    steps: int
    planned_steps: int
    train_seconds: float
    peak_memory_mb: float


def fit(
    task: Task,
    choice: ModelChoice,
    options: TrainOptions,
    folder: Path | None = None,
    *,
    budget_seconds: float | None = None,
    planned_steps: int | None = None,
    stop_after: int | None = None,
    resume: bool = False,
    listener: Callable[[float, str], None] | None = None,
) -> Fitted:
    """Train a model on a task.

    Parameters
    ----------
    task, choice, options
        What, on what, how.
    folder
        Run folder for ``metrics.csv`` and ``checkpoints/``; a temporary one by default.
    budget_seconds
        Time for training and validation.
    planned_steps, stop_after
        Repeat a run that a time budget shortened: its schedule's end, and the steps it took.
    resume
        Go on from ``checkpoints/last.safetensors`` if it is there.
    listener
        Called as ``listener(share, text)`` while training goes on.

    Raises
    ------
    KeyboardInterrupt
        If interrupted; the last finished epoch is kept in ``folder``.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="fimp-") as temporary:
            return fit(
                task,
                choice,
                options,
                Path(temporary),
                budget_seconds=budget_seconds,
                planned_steps=planned_steps,
                stop_after=stop_after,
                listener=listener,
            )
    reset_peak_memory()
    torch.manual_seed(task.seed)
    network = task.network(choice)
    batch_size = min(options.batch_size, max(1, len(task.split["train"])))
    per_epoch = -(-len(task.split["train"]) // batch_size)
    epochs = default_epochs(per_epoch) if options.epochs is None else options.epochs
    all_steps = epochs * per_epoch
    no_time = budget_seconds is not None and budget_seconds <= 0.0
    if not choice.spec.trainable or all_steps == 0 or stop_after == 0 or no_time:
        return Fitted(network, 0, 0, 0, 0.0, peak_memory_mb())
    plan = all_steps if planned_steps is None else planned_steps
    module = NodeModule(network, task, choice.hyperparameters, plan, warmup=min(100, all_steps // 10))
    mode = task.metrics[task.monitor]
    best = BestCheckpoint(folder / "checkpoints", task.monitor, mode)
    callbacks = [
        WeightAverage(),
        Clock(budget_seconds, stop_after),
        early_stopping(task.monitor, mode, options.patience),
        MetricsFile(folder / "metrics.csv"),
        best,
        *([Report(listener, task.monitor)] if listener else []),
    ]
    last = folder / "checkpoints" / "last.safetensors"
    with _Quiet():
        trainer = lightning.Trainer(
            accelerator="gpu" if options.accelerator == "cuda" else "cpu",
            devices=1,
            max_epochs=epochs,
            gradient_clip_val=1.0,
            deterministic="warn",
            check_val_every_n_epoch=max(1, epochs // _VALIDATIONS),
            num_sanity_val_steps=0,
            callbacks=callbacks,
            plugins=[SafeCheckpointIO()],
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        folder.mkdir(parents=True, exist_ok=True)
        _train(trainer, module, task, choice, options, last if resume and last.exists() else None, batch_size)
        _select(trainer, module, best, mode, task, choice, options)
    epochs_begun = -(-trainer.global_step // per_epoch)
    return Fitted(
        network.cpu().eval(),
        epochs_begun,
        trainer.global_step,
        module.planned_steps,
        module.spent_seconds,
        peak_memory_mb(),
    )


def _train(
    trainer: lightning.Trainer,
    module: NodeModule,
    task: Task,
    choice: ModelChoice,
    options: TrainOptions,
    checkpoint: Path | None,
    batch_size: int,
) -> None:
    hops = module.network.hops
    edges, count = task.edges(choice), task.data.num_nodes
    train = training_loader(task, NeighborSampler(edges, count, [options.fanout] * hops, task.seed), batch_size)
    check = evaluation_loader(task, NeighborSampler(edges, count, [-1] * hops), task.split["val"])
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, train, check, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:
        # Lightning shuts down on Ctrl-C, ignores further ones and exits; the caller decides what to print.
        if trainer.state.status == TrainerStatus.INTERRUPTED:
            raise KeyboardInterrupt from error
        raise
    finally:
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, handler)


def _select(
    trainer: lightning.Trainer,
    module: NodeModule,
    best: BestCheckpoint,
    mode: str,
    task: Task,
    choice: ModelChoice,
    options: TrainOptions,
) -> None:
    """Leave the better of the best checkpoint and the last step in the module, and write it as ``best``.

    A run may end between validations, so its last weights can be the best without having been looked at.
    """
    now = evaluate(task, choice, module.network, task.split["val"], options)[task.monitor]
    best_score = best.best_model_score
    path = Path(str(best.dirpath)) / "best.safetensors"
    if best_score is None or (now - float(best_score)) * (1 if mode == "max" else -1) >= 0:
        save_tree({"state_dict": {f"network.{k}": v for k, v in module.network.state_dict().items()}}, path)
    else:
        load_weights(module.network, path, prefix="network.")


@torch.no_grad()
def predict_batches(
    task: Task, choice: ModelChoice, network: Network, nodes: NDArray[np.int64], options: TrainOptions
) -> list[tuple[Tensor, Batch]]:
    """Predictions of a network for some nodes in evaluation mode: (prediction, batch) per batch, on the CPU."""
    sampler = NeighborSampler(task.edges(choice), task.data.num_nodes, [-1] * network.hops)
    device = torch.device(options.accelerator)
    was_training, before = network.training, next(network.parameters()).device
    network.to(device).eval()
    out = []
    for batch in evaluation_loader(task, sampler, nodes):
        prediction = network(batch.inputs.to(device), batch.graph.to(device))
        out.append((prediction.cpu(), batch))
    network.to(before).train(was_training)
    return out


def evaluate(
    task: Task, choice: ModelChoice, network: Network, nodes: NDArray[np.int64], options: TrainOptions
) -> dict[str, float]:
    """Metrics of a network on some nodes."""
    pairs = predict_batches(task, choice, network, nodes, options)
    return task.score(concatenate([task.outcome(prediction, batch.seeds) for prediction, batch in pairs]))


def reset_peak_memory() -> None:
    """Begin a new measurement of peak memory, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Peak resident memory since :func:`reset_peak_memory` in MB (of the GPU, where one was used).

    Where the system keeps no such peak (it does on Linux), what is resident now.
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    return float(psutil.Process().memory_info().rss) / 2**20


class _Quiet:
    """Silence Lightning's advice, which is addressed to its own users."""

    def __enter__(self) -> None:
        self._levels = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._catch = warnings.catch_warnings()
        self._catch.__enter__()
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", category=UserWarning, message=".*deterministic.*")

    def __exit__(self, *details: object) -> None:
        self._catch.__exit__(None, None, None)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
