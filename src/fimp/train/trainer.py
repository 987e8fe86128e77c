"""Lightning's trainer as every phase of training uses it."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerStatus
from torch.utils.data import DataLoader

from fimp.train import processes
from fimp.train.checkpoint import SafeCheckpointIO
from fimp.train.module import NodeModule
from fimp.train.sharding import ShardedStrategy


def make_trainer(
    accelerator: str,
    folder: Path,
    epochs: int,
    callbacks: Sequence[Callback],
    validate_every: int = 1,
    shard: bool = False,
) -> lightning.Trainer:
    """A trainer that writes checkpoints without pickle, and prints and logs nothing itself.

    Parameters
    ----------
    accelerator
        ``cpu`` or ``cuda``.
    folder
        Run folder.
    epochs
        Most epochs.
    callbacks
        What acts during training.
    validate_every
        Epochs between validations.
    shard
        Whether processes share weights out.
    """
    together = processes.count() > 1
    # Models may leave weights out of a step, and processes start equal and stay so.
    copies = partial(DDPStrategy, find_unused_parameters=True, broadcast_buffers=False)
    return lightning.Trainer(
        accelerator="gpu" if accelerator == "cuda" else "cpu",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]) if together else 1,
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]) if together else 1,
        strategy=(ShardedStrategy() if shard else copies()) if together else "auto",
        use_distributed_sampler=False,
        max_epochs=epochs,
        gradient_clip_val=1.0,
        deterministic="warn",
        check_val_every_n_epoch=validate_every,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        plugins=[SafeCheckpointIO()],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def run_trainer(
    trainer: lightning.Trainer,
    module: NodeModule,
    train: DataLoader,
    check: DataLoader | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Train, from a checkpoint if one is given.

    Raises
    ------
    KeyboardInterrupt
        If interrupted.
    """
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


class Quiet:
    """Silence Lightning's advice, which is addressed to its own users."""

    def __enter__(self) -> None:
        self._levels = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._catch = warnings.catch_warnings()
        self._catch.__enter__()
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", category=UserWarning, message=".*deterministic.*")
        # Of weights that are shared out; nothing changes queries, keys or values in place.
        warnings.filterwarnings("ignore", category=UserWarning, message="FSDP2-wrapped module .* a view tensor")

    def __exit__(self, *details: object) -> None:
        self._catch.__exit__(None, None, None)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
