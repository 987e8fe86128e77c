"""How a model is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fimp.errors import FIMPError
from fimp.train.module import PRECISIONS, autocast

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
    shard
        Whether processes that train together share weights, gradients and optimizer states out
        (:mod:`fimp.train.sharding`), in place of a copy of everything in each.

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
    shard: bool = False

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


def default_epochs(steps_per_epoch: int) -> int:
    """Epochs of a run that is given none: 60, but 300 to 800 steps, and 10 epochs however many steps they are."""
    steps = max(300, min(60 * steps_per_epoch, max(800, 10 * steps_per_epoch)))
    return -(-steps // steps_per_epoch)
