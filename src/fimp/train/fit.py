"""Train one model for one seed, and score it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, Task
from fimp.train import processes
from fimp.train.averaging import WeightAverage
from fimp.train.callbacks import BestCheckpoint, Clock, MetricsFile, Report, Validated, early_stopping
from fimp.train.checkpoint import load_tree, load_weights, save_tree
from fimp.train.evaluation import evaluate
from fimp.train.loader import evaluation_loader, sampler_for, training_loader, whole
from fimp.train.module import NodeModule
from fimp.train.options import TrainOptions, default_epochs
from fimp.train.peak_memory import peak_memory_mb, reset_peak_memory
from fimp.train.pretrain import Pretrained, Pretraining, pretrain, second_half
from fimp.train.probe import fit_probe
from fimp.train.sharding import check_shard, gather
from fimp.train.trainer import Quiet, make_trainer, run_trainer

#: Weights with which training starts, until it is over; what precedes the names of weights in checkpoints.
START, PREFIX = "start.safetensors", "network."
#: Validations in a full run: often enough to stop early, rarely enough to cost little.
_VALIDATIONS = 30
#: Nodes that are enough for the linear classifier with which a foundation model starts.
PROBED = 2000


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
    check_shard(options.shard)
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
        trainer = make_trainer(
            options.accelerator, folder, epochs, callbacks, max(1, epochs // _VALIDATIONS), options.shard
        )
        folder.mkdir(parents=True, exist_ok=True)
        _train(trainer, module, task, choice, options, last if resume and last.exists() else None, batch_size)
        if options.shard:
            # Built anew: a network does not change back, and its scores need all of it.
            network = module.network = gather(module.network, task.network(choice))
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
