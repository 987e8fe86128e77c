"""Pretrain a model in BrainLM's layout on recordings: all regions at once, without a graph between them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.hashing import hash_uniform
from fimp.data.masking import EVALUATION
from fimp.data.recordings import Recordings
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.foundation.brainlm import BrainLM
from fimp.foundation.brainlm_files import new_brainlm
from fimp.models.registry import Backbone, ModelChoice
from fimp.nn.stack_config import StackConfig
from fimp.tasks.base import Network
from fimp.train.fit import Fitted
from fimp.train.foundation.masked import Filled, MaskedPretraining, fit_new
from fimp.train.foundation.windows import RecordingWindows, WindowOptions
from fimp.train.options import TrainOptions

#: Tokens that go through the model at once in evaluation, where a batch of whole brains may be larger than memory.
_TOKENS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class BrainLMSize:
    """Sizes of a new model, as in :func:`fimp.foundation.brainlm_files.new_brainlm`."""

    dim: int = 64
    layers: int = 4
    heads: int = 4
    hidden: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        # Sizes that do not fit together must come to light before anything is read or written.
        StackConfig(self.dim, self.heads, self.hidden, self.layers, dropout=self.dropout)

    @property
    def decoder_layers(self) -> int:
        """Layers of the decoder: half as many as of the encoder, which is to do the work."""
        return max(1, self.layers // 2)


class BrainInputs(NamedTuple):
    """What a model is given of n windows.

    Attributes
    ----------
    signal
        Scaled, ``[n, R, window]``.
    noise
        Tokens with the least of it are shown, ``[n, R * P]``.
    """

    signal: Tensor
    noise: Tensor

    def take(self, n: int) -> BrainInputs:
        """The first n windows."""
        return BrainInputs(self.signal[:n], self.noise[:n])

    def to(self, device: torch.device) -> BrainInputs:
        """Both parts on a device."""
        return BrainInputs(self.signal.to(device), self.noise.to(device))


class WholeBrain(Backbone):
    """BrainLM as it is: all regions are one sequence.

    Parameters
    ----------
    model
        The model.
    """

    brainlm: BrainLM

    def __init__(self, model: BrainLM) -> None:
        super().__init__()
        self.brainlm, self.hops, self.out_dim = model, 0, model.stack.config.dim

    def forward(self, signal: Tensor, xyz: Tensor, noise: Tensor) -> Filled:
        """Windows filled in; arguments as for :meth:`BrainLM.reconstruct`."""
        found = self.brainlm.reconstruct(signal, xyz.expand(len(signal), -1, -1), noise=noise)
        target = signal.unflatten(2, (-1, self.brainlm.patch))
        return Filled(found.logits.flatten(1, 2), target.flatten(1, 2), found.mask.flatten(1))


class ReconstructionNetwork(Network):
    """Fills in masked windows; trained on standardised coordinates, which :meth:`trained` takes back.

    Parameters
    ----------
    model
        A new model.
    xyz
        Coordinates of the regions in the units of their table, ``[R, 3]``.
    """

    xyz: Tensor
    model: WholeBrain

    def __init__(self, model: BrainLM, xyz: Tensor) -> None:
        super().__init__()
        self.model, self.hops = WholeBrain(model), 0
        centre = xyz.mean(0)
        # A plain array, so that no cast of the network takes its precision.
        self.centre = centre.double().numpy()
        spread = float((xyz - centre).square().mean().sqrt())
        # Regions may all be in one place, as where nobody knows their coordinates.
        self.spread = spread if spread > 0 else 1.0
        self.register_buffer("xyz", ((xyz - centre) / self.spread).float())

    def forward(self, inputs: BrainInputs, graph: Subgraph) -> Filled:
        """The windows of a batch, filled in."""
        count = len(inputs.signal) if self.training else max(1, _TOKENS_AT_ONCE // inputs.noise.size(1))
        parts = zip(inputs.signal.split(count), inputs.noise.split(count), strict=True)
        done = [self.model(signal, self.xyz, noise) for signal, noise in parts]
        return Filled(*(torch.cat(part) for part in zip(*done, strict=True)))

    @torch.no_grad()
    def trained(self) -> BrainLM:
        """A copy of the model that takes coordinates in the units of the table, as published ones take mm."""
        model = copy.deepcopy(self.model.brainlm)
        for layer in (model.xyz, model.decoder.xyz):
            weight = layer.weight.double() / self.spread
            layer.bias.copy_(layer.bias.double() - weight @ torch.from_numpy(self.centre))
            layer.weight.copy_(weight)
        return model.eval()


class BrainLMPretraining(MaskedPretraining):
    """Fill in hidden patches of windows of recordings.

    Which patches a window shows depends on seed, epoch and window alone. They are shown in their natural order, as
    tokens stand when the model is used, while upstream shows them in random order.

    Parameters
    ----------
    recordings
        From :func:`fimp.data.read_recordings`.
    size, options
        Size of the model, and what it is shown.
    seed
        Seed of everything that is drawn.

    Attributes
    ----------
    windows
        The samples.

    Raises
    ------
    FIMPError
        If recordings are too short for a window or to hold a part out, or the mask ratio hides or shows nothing.
    """

    def __init__(self, recordings: Recordings, size: BrainLMSize, options: WindowOptions, seed: int) -> None:
        self.windows = RecordingWindows(recordings, options, seed)
        super().__init__(len(self.windows), seed)
        held = self.windows.places.part == "val"
        val = np.flatnonzero(held)
        self.split = {"train": np.flatnonzero(~held), "val": val, "test": val}
        self.size, self.options, self.xyz = size, options, torch.from_numpy(recordings.regions.xyz)
        self.tokens = len(recordings.regions) * (options.window // options.patch)
        self.shown = int(self.tokens * (1 - options.mask_ratio))
        if not 0 < self.shown < self.tokens:
            what = "shows" if self.shown == 0 else "hides"
            raise FIMPError(
                f"--mask-ratio: {options.mask_ratio} {what} none of {self.tokens} tokens; use 0.75, for instance"
            )

    def network(self, choice: ModelChoice) -> ReconstructionNetwork:
        """A new model."""
        size, options = self.size, self.options
        model = new_brainlm(
            len(self.xyz),
            options.window,
            patch=options.patch,
            mask_ratio=options.mask_ratio,
            dim=size.dim,
            layers=size.layers,
            heads=size.heads,
            hidden=size.hidden,
            decoder_layers=size.decoder_layers,
            dropout=size.dropout,
        )
        model.scaling = self.windows.scale
        return ReconstructionNetwork(model, self.xyz)

    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> BrainInputs:
        """Windows, and the noise that says what is hidden of them."""
        epochs = np.where(self.windows.places.part[nodes] == "val", EVALUATION, epoch)
        place = np.arange(self.tokens)
        rank = hash_uniform(self.seed, 6, epochs[:, None], nodes[:, None], place).argsort(1).argsort(1)
        noise = np.where(rank < self.shown, place, self.tokens + place)
        return BrainInputs(torch.from_numpy(self.windows.read(nodes, epoch)), torch.from_numpy(noise))


def train_brainlm(
    task: BrainLMPretraining, train: TrainOptions, lr: float = 1e-3, folder: Path | None = None, **arguments: Any
) -> tuple[BrainLM, Fitted]:
    """Train the new model of a task.

    Parameters
    ----------
    task
        Recordings, sizes and masks.
    train, lr
        How, and the peak learning rate.
    folder, **arguments
        As for :func:`fimp.train.fit.fit`, resume included.

    Returns
    -------
    tuple
        The model, in evaluation mode and with its scaling, and how it was trained.
    """
    fitted = fit_new(task, train, lr, folder, **arguments)
    assert isinstance(fitted.network, ReconstructionNetwork)
    return fitted.network.trained(), fitted


def pretrain_brainlm(
    recordings: Recordings,
    size: BrainLMSize,
    options: WindowOptions,
    train: TrainOptions,
    seed: int = 0,
    lr: float = 1e-3,
    folder: Path | None = None,
    **arguments: Any,
) -> tuple[BrainLM, Fitted]:
    """Pretrain a new BrainLM model on recordings; arguments and results as in the parts that it is made of.

    See :class:`BrainLMPretraining` and :func:`train_brainlm`.
    """
    return train_brainlm(BrainLMPretraining(recordings, size, options, seed), train, lr, folder, **arguments)
