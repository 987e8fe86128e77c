"""The self-supervised phase before training, for models that have one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, Task
from fimp.train import processes
from fimp.train.callbacks import Clock, MetricsFile, Report
from fimp.train.checkpoint import load_tree, load_weights, save_tree
from fimp.train.loader import Batch, pretraining_loader, sampler_for
from fimp.train.module import NodeModule, autocast
from fimp.train.trainer import Quiet, make_trainer, run_trainer

#: The finished phase, and the phase after its last whole epoch.
PRETRAINED, PRETRAINING = "pretrained.safetensors", "pretraining.safetensors"


@dataclass(frozen=True)
class Pretraining:
    """How a model is pretrained.

    Attributes
    ----------
    accelerator
        ``cpu`` or ``cuda``.
    fanout
        Most in-neighbours that a node receives from.
    epochs
        Passes over all nodes.
    batch_size
        Seeds per step.
    budget_seconds
        Time, or None. Once the warm-up has shown how many steps that pays for, these are taken.
    steps
        Steps that a run shortened by its budget took, to repeat it; None otherwise.
    precision
        As in :class:`fimp.train.TrainOptions`.
    """

    accelerator: str
    fanout: int
    epochs: int
    batch_size: int
    budget_seconds: float | None = None
    steps: int | None = None
    precision: str = "32"


@dataclass(frozen=True)
class Pretrained:
    """A finished pretraining: its optimizer steps, and seconds over all sittings."""

    steps: int = 0
    seconds: float = 0.0


class PretrainingModule(NodeModule):
    """The same optimizer and schedule, on the model's own loss."""

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed masks and dropout per step, apart from those of the phase that follows."""
        torch.manual_seed(self.task.seed * 1_000_003 + self.global_step + 2**40 + processes.rank() * 2**41)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Self-supervised loss of a batch of seeds."""
        with autocast(self.device.type, self.precision):
            loss = value = self.network.pretraining_loss(batch.inputs, batch.graph)
        if processes.count() > 1:
            loss, value = self._of_all(loss, torch.tensor(float(batch.graph.num_seeds), device=loss.device), batch)
        self.log("pretraining_loss", value, on_step=False, on_epoch=True, batch_size=batch.graph.num_step_seeds)
        return loss


def pretrain(
    network: Network,
    task: Task,
    choice: ModelChoice,
    folder: Path,
    plan: Pretraining,
    *,
    resume: bool = False,
    listener: Callable[[float, str], None] | None = None,
) -> Pretrained:
    """Pretrain a network in place.

    Parameters
    ----------
    network, task, choice
        What, and on what: the vectors of all nodes, of which hidden values are no part.
    folder
        Run folder; ``pretraining.csv`` gets a row per epoch.
    plan
        How.
    resume
        Go on from ``checkpoints/pretraining.safetensors``, or take the finished ``pretrained.safetensors``.
    listener
        Called as ``listener(share, text)`` with shares up to a half.
    """
    done, last = (folder / "checkpoints" / name for name in (PRETRAINED, PRETRAINING))
    if resume and done.exists():
        load_weights(network, done)
        stored = load_tree(done)
        return Pretrained(stored["steps"], stored["seconds"])
    planned = plan.epochs * -(-task.data.num_nodes // plan.batch_size)
    module = PretrainingModule(
        network, task, choice.hyperparameters, plan.steps or planned, min(100, planned // 10), plan.precision
    )
    sampler = sampler_for(task, choice, network.pretraining_hops, plan.fanout, training=True)
    checkpoint = ModelCheckpoint(last.parent, last.stem, enable_version_counter=False, save_on_train_epoch_end=True)
    checkpoint.FILE_EXTENSION = last.suffix
    callbacks: list[Callback] = [
        Clock(plan.budget_seconds, None, keep_plan=True),
        MetricsFile(folder / "pretraining.csv"),
        checkpoint,
        *([Report(_first_half(listener), task.monitor)] if listener else []),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with Quiet():
        trainer = make_trainer(plan.accelerator, folder, plan.epochs, callbacks)
        loader = pretraining_loader(task, sampler, plan.batch_size)
        run_trainer(trainer, module, loader, checkpoint=last if resume and last.exists() else None)
    result = Pretrained(trainer.global_step, module.spent_seconds)
    if processes.leads():
        save_tree({"state_dict": network.state_dict(), "steps": result.steps, "seconds": result.seconds}, done)
        last.unlink(missing_ok=True)
    return result


def _first_half(listener: Callable[[float, str], None]) -> Callable[[float, str], None]:
    return lambda share, text: listener(0.5 * share, f"pretraining, {text}")


def second_half(listener: Callable[[float, str], None]) -> Callable[[float, str], None]:
    """A listener to the phase that follows."""
    return lambda share, text: listener(0.5 + 0.5 * share, text)
