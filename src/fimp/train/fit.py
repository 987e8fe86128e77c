"""Train one model for one seed, and score it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, Task
from fimp.train import processes
from fimp.train.averaging import WeightAverage
from fimp.train.callbacks import BestCheckpoint, Clock, MetricsFile, Report, Validated, early_stopping
from fimp.train.checkpoint import load_tree, load_weights, save_tree
from fimp.train.loader import Batch, evaluation_loader, sampler_for, training_loader, whole
from fimp.train.module import PRECISIONS, NodeModule, autocast, concatenate, full, outcome_of
from fimp.train.pretrain import Pretrained, Pretraining, pretrain, second_half
from fimp.train.probe import fit_probe
from fimp.train.trainer import Quiet, make_trainer, run_trainer

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes
    ----------
    epochs
        Passes over the training nodes; None chooses (see :func:`default_epochs`).
    batch_size
        Seeds per step and process.
    patience
        Validations without improvement after which training stops.
    fanout
        Most in-neighbours that a node receives from in a training step; evaluation uses all, but for models that
        compute every seed in a graph of its own (``gps``).
    device
        ``auto``, ``cpu`` or ``cuda``.
    precision
        ``32``, or ``bf16``: products in bfloat16, weights and sums in float32.

    Raises
    ------
    FIMPError
        If a value is outside its range, or there is no such device here.
    """

    epochs: int | None = None
    batch_size: int = 256
    patience: int = 15
    fanout: int = 16
    device: str = "auto"
    precision: str = "32"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 0:
            raise FIMPError(f"--epochs: {self.epochs} is negative; use 50, for instance, or 0 for no training")
        if self.batch_size < 1:
            raise FIMPError(f"--batch-size: {self.batch_size} is below 1; use 256, for instance")
        if self.device not in DEVICES:
            raise FIMPError(f"--device: {self.device!r} is unknown; use {', '.join(DEVICES)}")
        if self.precision not in PRECISIONS:
            raise FIMPError(f"--precision: {self.precision!r} is unknown; use {', '.join(PRECISIONS)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise FIMPError("--device: cuda is not available here; use --device cpu")

    @property
    def accelerator(self) -> str:
        """The device, decided."""
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device

    def autocast(self) -> torch.autocast:
        """What a network runs under."""
        return autocast(self.accelerator, self.precision)


#: Weights with which training starts, until it is over; what precedes the names of weights in checkpoints.
START, PREFIX = "start.safetensors", "network."
#: Nodes that are enough for the linear classifier with which a foundation model starts.
PROBED = 2000
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
    pretraining_steps
        Optimizer steps taken before, in pretraining.
    train_seconds
        Time in training and validation, over all sittings.
    peak_memory_mb
        Peak resident memory of the process during the run (of the GPU, where one is used).
    """

    network: Network
    epochs: int
    steps: int
    planned_steps: int
    pretraining_steps: int
    train_seconds: float
    peak_memory_mb: float

    @property
    def shortened(self) -> dict[str, Any]:
        """What repeats the run, if a time budget shortened it: fields of a run's configuration."""
        return {
            "planned_steps": self.planned_steps,
            "steps": self.steps,
            "pretraining_steps": self.pretraining_steps,
        }


def fit(
    task: Task,
    choice: ModelChoice,
    options: TrainOptions,
    folder: Path | None = None,
    *,
    budget_seconds: float | None = None,
    planned_steps: int | None = None,
    stop_after: int | None = None,
    pretraining_steps: int | None = None,
    resume: bool = False,
    listener: Callable[[float, str], None] | None = None,
    on_validation: Callable[[float], None] | None = None,
) -> Fitted:
    """Train a model on a task; of several processes (:mod:`fimp.train.processes`), all call it alike.

    A model that pretrains does so for as many epochs as it is trained afterwards, in addition to them; of a time
    budget it gets half. Early stopping sees the second phase alone. The weights with which that starts, too, are kept
    if no later ones are better on the validation part.

    Parameters
    ----------
    task, choice, options
        What, on what, how.
    folder
        Run folder for ``metrics.csv`` and ``checkpoints/``; a temporary one by default.
    budget_seconds
        Time for training and validation.
    planned_steps, stop_after, pretraining_steps
        Repeat a run that a time budget shortened: its schedule's end, and the steps it took.
    resume
        Go on from the ``checkpoints`` in the folder, if there are any.
    listener
        Called as ``listener(share, text)`` while training goes on.
    on_validation
        Called with the monitored score after every validation; what it raises ends the run.

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
                Path(processes.of_first(temporary)),
                budget_seconds=budget_seconds,
                planned_steps=planned_steps,
                stop_after=stop_after,
                pretraining_steps=pretraining_steps,
                listener=listener,
                on_validation=on_validation,
            )
    begun = time.monotonic()
    task.check(choice)
    reset_peak_memory()
    torch.manual_seed(task.seed)
    network = task.network(choice)
    if task.probes:
        # Neither epochs nor a budget has a say in what takes no training.
        if choice.spec.trainable:
            fit_probe(task, choice, network, options.fanout, torch.device(options.accelerator))
        return Fitted(network, 0, 0, 0, 0, time.monotonic() - begun, peak_memory_mb())
    batch_size = processes.count() * whole(options.batch_size, task.together)
    batch_size = min(batch_size, max(1, len(task.split["train"])))
    per_epoch = -(-len(task.split["train"]) // batch_size)
    epochs = default_epochs(per_epoch) if options.epochs is None else options.epochs
    all_steps = epochs * per_epoch
    no_time = budget_seconds is not None and budget_seconds <= 0.0
    if not choice.spec.trainable or all_steps == 0 or stop_after == 0 or no_time:
        return Fitted(network, 0, 0, 0, 0, 0.0, peak_memory_mb())
    pretrained = Pretrained()
    if choice.spec.pretrains:
        half = None if budget_seconds is None else 0.5 * budget_seconds
        pretrained = pretrain(
            network,
            task,
            choice,
            folder,
            Pretraining(
                options.accelerator, options.fanout, epochs, batch_size, half, pretraining_steps, options.precision
            ),
            resume=resume,
            listener=listener,
        )
        listener = listener and second_half(listener)
    beginning = time.monotonic()
    start = _start(task, choice, network, options, folder / "checkpoints" / START, resume)
    starting_seconds = time.monotonic() - beginning
    if budget_seconds is not None:
        budget_seconds = processes.of_first(budget_seconds - (time.monotonic() - begun))
    plan = all_steps if planned_steps is None else planned_steps
    warmup = min(100, all_steps // 10)
    module = NodeModule(network, task, choice.hyperparameters, plan, warmup, options.precision)
    module.spent_seconds = pretrained.seconds + starting_seconds
    mode = task.metrics[task.monitor]
    best = BestCheckpoint(folder / "checkpoints", task.monitor, mode)
    callbacks = [
        WeightAverage(),
        Clock(budget_seconds, stop_after),
        early_stopping(task.monitor, mode, options.patience),
        MetricsFile(folder / "metrics.csv"),
        best,
        *([Report(listener, task.monitor)] if listener else []),
        *([Validated(on_validation, task.monitor)] if on_validation else []),
    ]
    last = folder / "checkpoints" / "last.safetensors"
    with Quiet():
        trainer = make_trainer(options.accelerator, folder, epochs, callbacks, max(1, epochs // _VALIDATIONS))
        folder.mkdir(parents=True, exist_ok=True)
        _train(trainer, module, task, choice, options, last if resume and last.exists() else None, batch_size)
        _select(trainer, module, best, mode, task, choice, options, start)
    epochs_begun = -(-trainer.global_step // per_epoch)
    return Fitted(
        network.cpu().eval(),
        epochs_begun,
        trainer.global_step,
        module.planned_steps,
        pretrained.steps,
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
    train = training_loader(task, sampler_for(task, choice, hops, options.fanout, training=True), batch_size)
    check = evaluation_loader(task, sampler_for(task, choice, hops, options.fanout), task.split["val"])
    run_trainer(trainer, module, train, check, checkpoint)


def _start(task: Task, choice: ModelChoice, network: Network, options: TrainOptions, path: Path, resume: bool) -> float:
    """Give the network the weights with which training starts, write them to a file, and score them."""
    if resume and path.exists():
        load_weights(network, path, prefix=PREFIX)
        return float(load_tree(path)["score"])
    if task.starts_with_probe(choice):
        fit_probe(task, choice, network, options.fanout, torch.device(options.accelerator), most=PROBED)
    score = evaluate(task, choice, network, task.split["val"], options)[task.monitor]
    _save(network, path, score)
    return score


def _select(
    trainer: lightning.Trainer,
    module: NodeModule,
    best: BestCheckpoint,
    mode: str,
    task: Task,
    choice: ModelChoice,
    options: TrainOptions,
    start: float,
) -> None:
    """Leave the best of the best checkpoint, the last step and the start in the module, and write it as ``best``.

    A run may end between validations, so its last weights can be the best without having been looked at.
    """
    folder, sign = Path(str(best.dirpath)), 1 if mode == "max" else -1
    path = folder / "best.safetensors"
    now = evaluate(task, choice, module.network, task.split["val"], options)[task.monitor]
    if best.best_model_score is not None and sign * (now - float(best.best_model_score)) < 0:
        now = float(best.best_model_score)
        load_weights(module.network, path, prefix=PREFIX)
    if math.isnan(now) or sign * (now - start) <= 0:
        load_weights(module.network, folder / START, prefix=PREFIX)
    processes.wait()
    _save(module.network, path, now)
    if processes.leads():
        (folder / START).unlink()


def _save(network: Network, path: Path, score: float) -> None:
    if not processes.leads():
        return
    save_tree({"state_dict": {PREFIX + k: v for k, v in network.state_dict().items()}, "score": score}, path)


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


@torch.no_grad()
def try_network(task: Task, choice: ModelChoice) -> Sequence[str]:
    """Let an untrained network answer for a few nodes: what does not fit the data shows before training.

    Returns
    -------
    sequence of str
        What a user should know of the network (:attr:`fimp.tasks.base.Network.notes`).

    Raises
    ------
    FIMPError
        If something does not fit.
    """
    network = task.network(choice).eval()
    graph = sampler_for(task, choice, network.hops, 4).sample(task.split["train"][:4])
    network(task.inputs(graph.nodes, 0), graph)
    return network.notes


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
