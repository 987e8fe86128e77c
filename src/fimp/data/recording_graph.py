"""Brain recordings as graphs: regions and their neighbours, and the same in every window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.band_pass import BandPass
from fimp.data.graphs import knn_graph
from fimp.data.recordings import Recording, Recordings, read_recordings
from fimp.data.simulated_recordings import folder_of
from fimp.data.windows import check_lengths, check_window
from fimp.errors import FIMPError

GRAPHS = ("knn", "functional", "structural")


@dataclass(frozen=True)
class RecordingOptions:
    """How recordings become a graph.

    Attributes
    ----------
    regions
        Table of regions; ``regions.csv`` beside the recordings by default.
    window, patch
        Volumes of a window and of a patch; a window is whole patches.
    graph
        ``knn``: the regions nearest in space. ``functional``: those whose signals correlate most, whatever the sign.
        ``structural``: those with most connections in the files. The last two are measured on training recordings.
    neighbors
        Neighbours of a region.
    detrend
        Whether linear trends are removed from each recording.
    atlas
        Label image, for recordings that are images of voxels (:func:`fimp.data.read_recordings`).
    tr
        Seconds per volume of recordings whose files do not say them.
    band_pass
        Band of frequencies that is kept, two numbers in Hz (:class:`fimp.data.band_pass.BandPass`); all by default.

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    regions: str | None = None
    window: int = 160
    patch: int = 20
    graph: str = "knn"
    neighbors: int = 8
    detrend: bool = True
    atlas: str | None = None
    tr: float | None = None
    band_pass: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_window(self.window, self.patch)
        if self.window == self.patch:
            raise FIMPError(
                f"--patch: {self.patch} is all of --window {self.window}, wanted two patches at least; use "
                f"{max(1, self.window // 8)}, for instance"
            )
        if self.graph not in GRAPHS:
            raise FIMPError(f"--graph: {self.graph!r} is unknown; use {', '.join(GRAPHS)}")
        if self.neighbors < 1:
            raise FIMPError(f"--neighbors: {self.neighbors} is below 1; use 8, for instance")
        if self.tr is not None and not 0.0 < self.tr < math.inf:
            raise FIMPError(f"--tr: {self.tr} is no positive number of seconds; use 2, for instance")
        if self.band_pass is not None:
            # A configuration file gives back a list.
            object.__setattr__(self, "band_pass", tuple(self.band_pass))
        _ = self.band

    @property
    def band(self) -> BandPass | None:
        """The filter.

        Raises
        ------
        FIMPError
            If there is no such filter.
        """
        if self.band_pass is None:
            return None
        if len(self.band_pass) != 2:
            raise FIMPError(f"--band-pass: {list(self.band_pass)}, wanted two frequencies in Hz; use 0.01 0.1")
        return BandPass(*self.band_pass)


@dataclass(frozen=True)
class RecordingReference:
    """What a trained model fixes about the recordings it reads.

    Attributes
    ----------
    regions
        Names of the regions, in order.
    """

    regions: list[str]


def read_recording_graph(
    source: str | Path | Sequence[str | Path], options: RecordingOptions, reference: RecordingReference | None = None
) -> Data:
    """Read recordings.

    Parameters
    ----------
    source
        As for :func:`fimp.data.read_recordings`, or ``simulated_recordings``.
    options
        How.
    reference
        What a trained model fixes (``data.reference`` of what it was trained on): then the regions must be its own.

    Returns
    -------
    Data
        The graph of the regions, R of them: ``pos [R, 3]`` float64 and ``edge_index``, which stays empty where it is
        measured on training recordings; ``recordings`` (:class:`fimp.data.Recordings`), ``reading`` (the options),
        ``reference``, ``name`` and ``notes``.

    Raises
    ------
    FIMPError
        As :func:`fimp.data.read_recordings`; if a recording is shorter than a window, or cannot be filtered; if none
        has connections, and they are asked for; or if regions are other than the model's.
    """
    place = folder_of(source) if isinstance(source, (str, Path)) else source
    recordings = _timed(read_recordings(place, options.regions, options.atlas), options.tr)
    check_lengths(recordings, options.window)
    band = options.band
    if band is not None:
        for item in recordings.recordings:
            band.check(item.name, item.tr)
    if len(recordings.regions) < 2:
        raise FIMPError(f"{recordings.name}: one region, wanted several; give the table of a parcellation")
    names = list(recordings.regions.names)
    if reference is not None and names != reference.regions:
        raise FIMPError(
            f"{recordings.name}: {len(names)} regions that are not the {len(reference.regions)} that the model was "
            "trained on, by name and in order; give recordings of the same parcellation"
        )
    if options.graph == "structural" and all(item.structural is None for item in recordings.recordings):
        raise FIMPError(
            f"--graph structural: no file of {recordings.name} has connections ('structural', [regions, regions]); "
            "use --graph knn"
        )
    xyz, what = recordings.regions.xyz, {"knn": "nearest", "functional": "correlated most", "structural": "connected"}
    edges = knn_graph(xyz, options.neighbors) if options.graph == "knn" else torch.zeros(2, 0, dtype=torch.int64)
    items = recordings.recordings
    subjects = len({item.subject for item in items})
    notes = [
        f"{len(items):,} recordings of {subjects:,} subjects, {len(xyz)} regions",
        f"graph: {options.neighbors} regions, {what[options.graph]}, in every window",
        *recordings.notes,
    ]
    if band is not None:
        notes.append(f"band-pass filter: {band.low:g} to {band.high:g} Hz, each stretch of a split by itself")
    data = Data(edge_index=edges, pos=torch.from_numpy(xyz), num_nodes=len(xyz))
    data.recordings, data.reading, data.name, data.notes = recordings, options, recordings.name, notes
    data.reference = RecordingReference(names)
    return data


def _timed(recordings: Recordings, tr: float | None) -> Recordings:
    """Recordings with the seconds per volume that are given for those that do not say them."""
    items = tuple(item if item.tr is not None else replace(item, tr=tr) for item in recordings.recordings)
    return replace(recordings, recordings=items)


def measured_edges(
    options: RecordingOptions, signals: Sequence[NDArray[np.floating]], recordings: Sequence[Recording]
) -> Tensor:
    """Edges between regions ``[2, E]`` that are measured.

    Parameters
    ----------
    options
        Kind of graph, ``functional`` or ``structural``, and neighbours of a region.
    signals
        Scaled stretches of training recordings, ``[R, any length]`` each.
    recordings
        Training recordings.

    Raises
    ------
    FIMPError
        If no training recording has connections, and they are asked for.
    """
    if options.graph == "functional":
        centred = [signal - signal.mean(1, keepdims=True) for signal in signals]
        strength = np.abs(correlation(np.concatenate(centred, axis=1)))
    else:
        known = [item.structural for item in recordings if item.structural is not None]
        if not known:
            raise FIMPError(
                "--graph structural: no training recording has connections ('structural', [regions, regions]); "
                "use --graph knn"
            )
        strength = np.mean([matrix + matrix.T for matrix in known], axis=0)
    return strongest(strength, options.neighbors)


def correlation(signal: NDArray[np.floating]) -> NDArray[np.float64]:
    """Correlation of regions ``[R, R]`` of a signal ``[R, T]``; zero where a region is constant."""
    norm = np.linalg.norm(signal, axis=1, keepdims=True)
    unit = np.divide(signal, norm, out=np.zeros_like(signal), where=norm > 0).astype(np.float64)
    out: NDArray[np.float64] = unit @ unit.T
    return out


def profiles(signals: Sequence[NDArray[np.floating]], most: int) -> NDArray[np.float32]:
    """What regions do together, as a position of each: ``[R, most]``, of which inner products are near correlations.

    The first factors of the correlation of training recordings; zero where there are fewer of them.

    Parameters
    ----------
    signals
        Scaled stretches of training recordings, ``[R, any length]`` each.
    most
        Length of a profile.
    """
    units = [signal / max(float(np.sqrt(np.mean(np.square(signal)))), 1e-12) for signal in signals]
    values, vectors = np.linalg.eigh(correlation(np.concatenate(units, axis=1)))
    factors = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1][:, :most]
    return np.pad(factors, ((0, 0), (0, most - factors.shape[1]))).astype(np.float32)


def strongest(strength: NDArray[np.floating], neighbors: int) -> Tensor:
    """Every region receives from the regions that it is tied to most strongly, ``[2, E]``; a tie of 0 is none.

    Parameters
    ----------
    strength
        ``[R, R]``.
    neighbors
        Most neighbours of a region.
    """
    ties = strength * ~np.eye(len(strength), dtype=bool)
    order = np.argsort(-ties, axis=1, kind="stable")[:, : min(neighbors, len(ties) - 1)]
    receiver = np.repeat(np.arange(len(ties)), order.shape[1])
    sender = order.ravel()
    keep = ties[receiver, sender] > 0
    return torch.from_numpy(np.stack([sender[keep], receiver[keep]]))


def in_every_window(edges: Tensor, regions: int, windows: int) -> Tensor:
    """The graph of the regions once per window, ``[2, windows * E]``; nodes of a window never meet another's."""
    shift = regions * torch.arange(windows)[:, None]
    return torch.stack([(side[None] + shift).flatten() for side in edges])
