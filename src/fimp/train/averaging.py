"""A moving average of the weights, which is what is validated, kept and used."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fimp.train.sharding import like

#: Share of the average that a step keeps, once there are enough steps to average over.
DECAY = 0.99


class WeightAverage(Callback):
    """Keeps an exponential moving average of the weights, for every model alike.

    Where cells are few, the weights of single steps jump about while the learning rate is high, and the best of
    some noisy validations is then little more than luck. The average holds still. Lightning's own callback
    copies the whole module, and with it the task and its data. Weights that are frozen have no average: of a large
    foundation model with a small head, only the head is held twice.

    The average stands in ``state_dict`` of a checkpoint, the weights themselves in ``current``.
    """

    def __init__(self) -> None:
        self.average: dict[str, Tensor] | None = None

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Put the average that a checkpoint brought where the weights are."""
        if self.average is not None:
            self.average = {name: like(self.average[name], weight) for name, weight in _trained(module).items()}

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Begin with the first weights, unless a checkpoint brought an average."""
        if self.average is None:
            self.average = {name: weight.detach().clone() for name, weight in _trained(module).items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Move towards the weights of this step; the first steps are forgotten sooner."""
        assert self.average is not None
        kept = min(DECAY, trainer.global_step / (trainer.global_step + 10))
        for name, weight in _trained(module).items():
            self.average[name].lerp_(weight, 1.0 - kept)

    def on_validation_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Validate the average."""
        self._swap(module)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Train on with the weights themselves."""
        self._swap(module)

    def on_fit_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Leave the average in the module, also where a run is resumed of which nothing was left to train."""
        self._swap(module)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write both."""
        if self.average is not None:
            weights, names = checkpoint["state_dict"], _names(module)
            checkpoint["current"] = {name: weights[name] for name in names}
            checkpoint["state_dict"] = {**weights, **{name: self.average[first] for name, first in names.items()}}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both; Lightning has put the average where the weights belong."""
        self.average = {name: checkpoint["state_dict"][name].clone() for name in _trained(module)}
        module.load_state_dict({**checkpoint["state_dict"], **checkpoint["current"]})

    @torch.no_grad()
    def _swap(self, module: lightning.LightningModule) -> None:
        if self.average is None:
            return
        for name, weight in _trained(module).items():
            kept = weight.clone()
            weight.copy_(self.average[name])
            self.average[name] = kept


def _trained(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _names(module: torch.nn.Module) -> dict[str, str]:
    """All names of the weights that are trained, and the first name of each: modules may share weights.

    A checkpoint must hold the same under all of them, since the last one that is loaded counts.
    """
    first = {id(weight): name for name, weight in _trained(module).items()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(weight)] for name, weight in every if id(weight) in first}
