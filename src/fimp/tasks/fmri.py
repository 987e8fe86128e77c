"""Predict hidden patches of brain recordings on graphs of regions (paper table 4, appendix B.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.hashing import hash_uniform
from fimp.data.masking import EVALUATION
from fimp.data.recording_graph import (
    RecordingOptions,
    RecordingReference,
    in_every_window,
    measured_edges,
    profiles,
    read_recording_graph,
)
from fimp.data.recording_splits import split_recordings, whole_recordings
from fimp.data.recordings import Recordings
from fimp.data.scaling import RobustScale
from fimp.data.window_mixing import mixed
from fimp.data.windows import Windows
from fimp.errors import FIMPError
from fimp.models.gaussian import Gaussian
from fimp.models.registry import ModelChoice
from fimp.tasks.base import PARTS, Network, Task, TaskKind, register
from fimp.tasks.fmri_networks import GaussianNetwork, RecordingNetwork, fitted_gaussian
from fimp.tasks.foundation import FoundationRecordingNetwork, read_recording_model
from fimp.tasks.whole_recording import WholeRecordingNetwork
from fimp.tokenizers.window import PROFILE, WindowInputs

MASKINGS = ("random", "blocks", "future")
SPLITS = ("subject", "time")
#: Learning rate of models of tokens, which start from an answer that large steps would only spoil.
TOKENS_LR = 1e-4
#: Hops within which models of tokens hear regions: of 8 nearest neighbours, four rings are three quarters of a brain.
REACH = 4
#: Regions whose reconstruction is drawn.
EXAMPLES = 3


@dataclass(frozen=True)
class FMRIOptions:
    """Settings of the task.

    Attributes
    ----------
    mask_ratio
        Share of a region's patches that are hidden, rounded so that some are and some are not.
    masking
        ``random``: patches drawn for every region. ``blocks``: the same patches of all regions. ``future``: the last
        patches of all regions.
    split
        ``subject`` or ``time`` (:func:`fimp.data.recording_splits.split_recordings`).

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    mask_ratio: float = 0.75
    masking: str = "random"
    split: str = "subject"

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_ratio < 1.0:
            raise FIMPError(f"--mask-ratio: {self.mask_ratio} is outside (0, 1); use 0.75, for instance")
        if self.masking not in MASKINGS:
            raise FIMPError(f"--masking: {self.masking!r} is unknown; use {', '.join(MASKINGS)}")
        if self.split not in SPLITS:
            raise FIMPError(f"--split: {self.split!r} is unknown; use {' or '.join(SPLITS)}")


class View(NamedTuple):
    """Whole windows as a model may see them, m of them.

    Attributes
    ----------
    signal
        In units of ``spread``, ``[m, R, P, L]``.
    hidden
        ``[m, R, P]``.
    spread
        Of what a window shows of a region, ``[m, R]`` (:func:`unit_of`).
    """

    signal: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    spread: NDArray[np.float32]


def unit_of(power: NDArray[np.floating]) -> NDArray[np.float32]:
    """Units of regions ``[..., R]``: the root of their power, halfway to that of all regions, as few patches tell it.

    Parameters
    ----------
    power
        Mean square of what is seen of regions, ``[..., R]``.
    """
    mean = 0.5 * (power + power.mean(-1, keepdims=True))
    return np.sqrt(np.where(mean > 0.0, mean, 1.0)).astype(np.float32)


class FMRITask(Task):
    """Masked reconstruction of windows of recordings (paper table 4, appendix B.3).

    A node is a region during a window. Every window has the graph of the regions to itself, and what a node sends is
    what it shows. Regions are given to all models in units of what the window shows of them, so that a restless subject
    is no other problem than a calm one; scores are those of the scaled signal.

    Parameters
    ----------
    data
        From :func:`fimp.data.recording_graph.read_recording_graph`.
    options
        Settings.
    seed
        Seed of split, windows, masks and weights.
    state
        :meth:`state` of the task that a model was trained on, for other recordings of the same regions: whole ones, in
        windows side by side.

    Attributes
    ----------
    recordings
        The recordings.
    windows
        The windows, and how they are scaled.
    """

    name: ClassVar[str] = "fmri"
    fills: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    rules: ClassVar[tuple[str, ...]] = ("interpolate", "gaussian")

    def __init__(
        self, data: Data, options: FMRIOptions = FMRIOptions(), seed: int = 0, state: dict[str, Any] | None = None
    ) -> None:
        self.metrics, self.monitor = {"mse": "min", "r2": "max"}, "r2"
        self.options, self.reading, self.seed = options, data.reading, seed
        recordings, window, patch = data.recordings, data.reading.window, data.reading.patch
        self.recordings: Recordings = recordings
        self.regions, self.patches, self.length = len(recordings.regions), window // patch, patch
        self.together = self.regions
        self._visible = min(max(1, round((1.0 - options.mask_ratio) * self.patches)), self.patches - 1)
        self.region_names = recordings.regions.names
        self.xyz = torch.from_numpy(recordings.regions.xyz).float()
        scale = None if state is None else _scale_of(state)
        if state is None:
            spans, note = split_recordings(recordings, window, patch, options.split, seed)
        else:
            spans, note = whole_recordings(recordings)
        self.windows = Windows(recordings, spans, window, data.reading.detrend, seed, scale, data.reading.band)
        part = np.repeat(self.windows.places.part, self.regions)
        self.split = {} if state else {name: np.flatnonzero(part == name) for name in PARTS}
        edges = data.edge_index if state is None else state["edges"]
        if state is None and data.reading.graph != "knn":
            training = {span.recording for span in spans if span.part == "train"}
            items = [item for index, item in enumerate(recordings.recordings) if index in training]
            edges = measured_edges(data.reading, self.windows.training, items)
        self.region_edges = edges
        found = torch.from_numpy(profiles(self.windows.training, PROFILE)) if state is None else state["profiles"]
        self.profiles: Tensor = found
        self.data = self._graph(data, edges, note)

    def _graph(self, data: Data, edges: Tensor, note: str) -> Data:
        """The graph of all windows."""
        count = len(self.windows)
        out = Data(edge_index=in_every_window(edges, self.regions, count), num_nodes=count * self.regions)
        # No edge of a control crosses windows.
        out.section = torch.arange(count).repeat_interleave(self.regions)
        out.reference = data.reference
        out.name, out.notes = data.name, [*data.notes, *self.windows.notes, note]
        return out

    @property
    def num_features(self) -> int:
        """Time points of a window."""
        return int(self.windows.window)

    def state(self) -> dict[str, Any]:
        """The scale and the profiles of training recordings, and the graph of the regions."""
        scale = self.windows.scale
        return {
            "median": torch.from_numpy(scale.median),
            "iqr": torch.from_numpy(scale.iqr),
            "flat": torch.from_numpy(scale.flat),
            "detrend": scale.detrend,
            "edges": self.region_edges,
            "profiles": self.profiles,
        }

    def view(self, windows: NDArray[np.int64], epoch: int, hide: bool = True) -> View:
        """Some windows in an epoch, all regions of each; those that do not train are the same in every epoch.

        Parameters
        ----------
        windows
            Which windows, m of them.
        epoch
            The epoch.
        hide
            Whether anything is hidden.
        """
        signal = self._signal(windows, epoch).reshape(len(windows), self.regions, self.patches, self.length)
        hidden = np.zeros(signal.shape[:3], bool)
        if hide:
            hidden = self._hidden(windows, self._epochs(windows, epoch))
        shown = np.broadcast_to(~hidden[..., None], signal.shape)
        square = np.where(shown, signal, 0.0).astype(np.float64) ** 2
        spread = unit_of(square.sum((2, 3)) / shown.sum((2, 3)))
        return View(signal / spread[:, :, None, None], hidden, spread)

    def inputs(self, nodes: NDArray[np.int64], epoch: int, hide: bool = True) -> WindowInputs:
        """Windows of some regions in an epoch; with ``hide=False`` nothing of them is hidden."""
        windows, place = np.unique(nodes // self.regions, return_inverse=True)
        region = nodes % self.regions
        seen = self.view(windows, epoch, hide)
        signal, hidden = seen.signal[place, region], seen.hidden[place, region]
        time = np.arange(self.patches * self.length)
        draw = hash_uniform(self.seed, 8, self._epochs(windows, epoch)[place][:, None], nodes[:, None], time)
        noise = ndtri(np.clip(draw, 1e-9, 1.0 - 1e-9)).astype(np.float32).reshape(signal.shape)
        return WindowInputs(
            torch.from_numpy(np.where(hidden[..., None], np.float32(0.0), signal)),
            torch.from_numpy(signal),
            torch.from_numpy(hidden),
            torch.from_numpy(seen.spread[place, region]),
            torch.from_numpy(noise),
            self.xyz[torch.from_numpy(region)],
            self.profiles[torch.from_numpy(region)],
        )

    def shown(self, nodes: NDArray[np.int64]) -> WindowInputs:
        """Windows of some regions with nothing hidden, as evaluation cuts them."""
        return self.inputs(nodes, EVALUATION, hide=False)

    def _epochs(self, windows: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """The epoch whose draw each window shows: what evaluation hides stays hidden."""
        return np.where(self.windows.places.part[windows] == "train", epoch, EVALUATION)

    def _signal(self, windows: NDArray[np.int64], epoch: int) -> NDArray[np.float32]:
        signal = self.windows.read(windows, epoch)
        training = np.flatnonzero(self.windows.places.part[windows] == "train")
        if epoch != EVALUATION and len(training):
            signal[training] = mixed(self.windows, windows[training], epoch)
        return signal

    def _hidden(self, windows: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """What is hidden of whole windows, ``[m, R, P]``."""
        shape = len(windows), self.regions, self.patches
        patch = np.arange(self.patches)
        if self.options.masking == "future":
            return np.broadcast_to(patch >= self._visible, shape)
        region = np.arange(self.regions) if self.options.masking == "random" else np.zeros(self.regions, np.int64)
        draw = hash_uniform(self.seed, 7, epochs[:, None, None], windows[:, None, None], region[:, None], patch)
        return draw.argsort(2).argsort(2) >= self._visible

    def with_defaults(self, choice: ModelChoice) -> ModelChoice:
        """As :meth:`fimp.tasks.Task.with_defaults`; models of tokens are trained at :data:`TOKENS_LR`."""
        h = choice.hyperparameters
        own = choice.spec.input == "tokens" and h == choice.spec.defaults
        return replace(choice, hyperparameters=replace(h, lr=TOKENS_LR)) if own else choice

    def network(self, choice: ModelChoice) -> Network:
        """The model with tokenizer or filled-in windows, and a head for patches; a rule, fitted where it can be.

        Raises
        ------
        FIMPError
            If the model cannot be used on recordings.
        """
        self.check(choice)
        if choice.gene_table is not None:
            raise FIMPError(f"--models: {choice.name} has embeddings of genes, and recordings have none")
        if choice.spec.name == "gaussian":
            return GaussianNetwork(self._gaussian(choice), self.regions, lambda windows: self.view(windows, EVALUATION))
        if choice.spec.foundation is not None and choice.spec.foundation.scope == "graph":
            return WholeRecordingNetwork(choice, self.regions, self.patches, self.length)
        if choice.spec.foundation is not None:
            return FoundationRecordingNetwork(*read_recording_model(choice, self.patches, self.length))
        choice = choice.for_data(sum(signal.size for signal in self.windows.training), reach=REACH)
        return RecordingNetwork(choice, self.patches, self.length, self.xyz)

    def _gaussian(self, choice: ModelChoice) -> Gaussian:
        """The Gaussian of training recordings; where there are none, one whose numbers are yet to be loaded."""
        if not self.split:
            model = choice.spec.build(choice.hyperparameters, self.regions, self.patches * self.length)
            assert isinstance(model, Gaussian)
            return model
        val = np.unique(self.split["val"] // self.regions)
        training = [signal / unit_of(np.square(signal).mean(1))[:, None] for signal in self.windows.training]
        return fitted_gaussian(choice, training, self.view(val, EVALUATION), self.patches * self.length)

    def edges(self, choice: ModelChoice) -> Tensor:
        """As :meth:`fimp.tasks.Task.edges`; for a model of whole windows those that keep each window together."""
        if choice.spec.foundation is None or choice.spec.foundation.scope == "node":
            return super().edges(choice)
        others = torch.arange(1, self.regions)
        first = torch.zeros_like(others)
        star = torch.cat([torch.stack([first, others]), torch.stack([others, first])], 1)
        return in_every_window(star, self.regions, len(self.windows))

    def loss(self, prediction: Tensor, inputs: WindowInputs) -> Tensor:
        """Mean squared error of hidden patches, in units of what is seen of a region: every recording counts alike."""
        return (prediction - inputs.targets)[inputs.hidden].square().mean()

    def loss_weight(self, prediction: Tensor, inputs: WindowInputs) -> Tensor:
        """Number of hidden patches."""
        return inputs.hidden.sum()

    def outcome(self, prediction: Tensor, inputs: WindowInputs) -> tuple[Tensor, ...]:
        """Seed, prediction and truth ``[K, L]`` of every hidden patch, on the scaled signal."""
        spread = inputs.spread[:, None, None]
        hidden = inputs.hidden
        return hidden.nonzero()[:, 0], (prediction * spread)[hidden], (inputs.targets * spread)[hidden]

    def example(self, outcome: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Predictions of some regions of the first window of a part: ``nodes [K]``, ``predicted [K, L]``.

        Regions are spread evenly over the table; K is the number of their hidden patches, in the order of nodes.
        """
        order = outcome[0].argsort(stable=True)
        nodes, predicted = outcome[0][order], outcome[1][order]
        first = int(nodes.min()) // self.regions
        chosen = np.unique(np.linspace(0, self.regions - 1, EXAMPLES + 2).round().astype(np.int64)[1:-1])
        shown = torch.isin(nodes, torch.from_numpy(first * self.regions + chosen))
        return {"nodes": nodes[shown], "predicted": predicted[shown]}

    def score(self, outcome: tuple[Tensor, ...]) -> dict[str, float]:
        """Mean squared error, and R2 pooled over all hidden values."""
        _, predicted, truth = (part.double() for part in outcome)
        squared = float((predicted - truth).square().sum())
        spread = float((truth - truth.mean()).square().sum()) if len(truth) else 0.0
        return {
            "mse": squared / truth.numel() if truth.numel() else float("nan"),
            "r2": 1.0 - squared / spread if spread > 1e-12 else float("nan"),
        }

    def node_statistics(self, outcome: tuple[Tensor, ...]) -> NDArray[np.float64]:
        """Number, sum and sum of squares of hidden values (centred), and squared error, of every region: ``[R, 4]``.

        Windows of a part overlap, and are few: what is resampled are regions, with all of their windows.
        """
        region = outcome[0].numpy() % self.regions
        predicted, truth = (part.double().numpy() for part in outcome[1:])
        centred = truth - truth.mean()
        parts = (np.ones_like(centred), centred, centred**2, (predicted - truth) ** 2)
        return np.stack([np.bincount(region, part.sum(1), self.regions) for part in parts], axis=1)

    def units(self, outcome: tuple[Tensor, ...]) -> NDArray[np.int64]:
        """All regions, which are the same whoever tests."""
        return np.arange(self.regions)

    def resampled(self, statistics: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pooled R2 of resampled regions; see :meth:`fimp.tasks.Task.resampled`."""
        count, first, second, error = (weights @ statistics).T
        spread = second - first**2 / np.maximum(count, 1.0)
        out: NDArray[np.float64] = 1.0 - error / np.where(spread > 0, spread, np.nan)
        return out


def _scale_of(state: dict[str, Any]) -> RobustScale:
    median, iqr, flat = (state[name].numpy() for name in ("median", "iqr", "flat"))
    return RobustScale(median, iqr, bool(state["detrend"]), flat)


register(
    TaskKind(
        FMRITask.name,
        RecordingOptions,
        FMRIOptions,
        RecordingReference,
        read_recording_graph,
        FMRITask,
    )
)
