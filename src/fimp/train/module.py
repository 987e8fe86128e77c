"""The training step, the schedule and the score, for any task and any model."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from fimp.models.registry import Hyperparameters
from fimp.tasks.base import Network, Task
from fimp.train import processes
from fimp.train.loader import Batch

#: ``32`` or ``bf16``: products in bfloat16, weights, sums and scores in float32.
PRECISIONS = ("32", "bf16")


class NodeModule(lightning.LightningModule):
    """A network with a task's loss and metrics.

    The learning rate rises linearly over ``warmup`` steps and falls along a cosine to zero at
    ``planned_steps``. A time budget may lower ``planned_steps`` once the warm-up is over, never before, so a run
    is determined by its two numbers.

    Parameters
    ----------
    network, task
        What to train, and on what.
    hyperparameters
        Learning rate and weight decay.
    planned_steps, warmup
        The schedule, in optimizer steps.
    precision
        One of :data:`PRECISIONS`.
    """

    def __init__(
        self,
        network: Network,
        task: Task,
        hyperparameters: Hyperparameters,
        planned_steps: int,
        warmup: int,
        precision: str = "32",
    ) -> None:
        super().__init__()
        self.network, self.task, self.hyperparameters = network, task, hyperparameters
        self.planned_steps, self.warmup, self.precision = planned_steps, warmup, precision
        self.spent_seconds = 0.0
        self._outcomes: list[tuple[Tensor, ...]] = []

    def factor(self, step: int) -> float:
        """Learning rate at a step, as a share of its peak."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        left = (step - self.warmup) / max(1, self.planned_steps - self.warmup)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, left)))

    def configure_optimizers(self) -> Any:
        """AdamW; biases, norms and other vectors are not decayed."""
        h = self.hyperparameters
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": h.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(groups, lr=h.lr, betas=(0.9, 0.99), fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout per step, so that a resumed run draws what an uninterrupted one draws."""
        # The first process draws what a single one draws, the others something else.
        torch.manual_seed(self.task.seed * 1_000_003 + self.global_step + processes.rank() * 2**41)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch of seeds."""
        answer = self._predict(batch)
        # Of several networks, each has a loss of its own (fimp.tasks.members).
        predictions = answer if isinstance(answer, list) else [answer]
        loss = torch.stack([self.task.loss(prediction, batch.seeds) for prediction in predictions]).mean()
        if processes.count() > 1:
            loss, value = self._of_all(loss, self.task.loss_weight(predictions[0], batch.seeds), batch)
        else:
            value = loss
        self.log("train_loss", value, on_step=False, on_epoch=True, batch_size=batch.graph.num_step_seeds)
        return loss

    def _of_all(self, loss: Tensor, weight: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The part of this process in the loss over the seeds of all processes, and that loss.

        Gradients are averaged over processes, so the mean of the parts is the whole.
        """
        weight = weight.to(loss.dtype) * batch.counts
        part = loss * weight / processes.total(weight).clamp(min=1e-12)
        return part * processes.count(), processes.total(part)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect what the score needs."""
        prediction = self._predict(batch)
        if batch.counts:
            self._outcomes.append(outcome_of(self.task, prediction, batch))

    def _predict(self, batch: Batch) -> Any:
        with autocast(self.device.type, self.precision):
            return full(self.network(batch.inputs, batch.graph))

    def on_validation_epoch_end(self) -> None:
        """Score the whole part at once: a mean of batch scores would depend on the batches."""
        for name, value in self.task.score(concatenate(processes.in_turn(self._outcomes))).items():
            self.log(f"val_{name}", value)
        self._outcomes.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule and the time spent."""
        checkpoint["fimp"] = {"planned_steps": self.planned_steps, "spent_seconds": self.spent_seconds}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them."""
        self.planned_steps = checkpoint["fimp"]["planned_steps"]
        self.spent_seconds = checkpoint["fimp"]["spent_seconds"]


def autocast(device: str, precision: str) -> torch.autocast:
    """What a network runs under on a kind of device, at a precision."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def full(prediction: Any) -> Any:
    """A prediction in float32: loss and scores are computed in full precision, whatever the network ran in."""
    return tree_map(lambda part: part.float() if part.dtype == torch.bfloat16 else part, prediction)


def concatenate(outcomes: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Join the outcomes of batches along their first axis."""
    return tuple(torch.cat(parts) for parts in zip(*outcomes, strict=True))


def outcome_of(task: Task, prediction: Any, batch: Batch) -> tuple[Tensor, ...]:
    """The outcome of a batch on the CPU, with node indices in place of positions in the batch."""
    seed, *rest = (part.cpu() for part in task.outcome(prediction, batch.seeds))
    # A loader turns arrays into tensors.
    return torch.as_tensor(batch.graph.nodes)[seed], *rest
