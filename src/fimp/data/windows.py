"""Windows of recordings: where they start, which part of a split they are in, and the scaled signal in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimp.data.band_pass import BandPass
from fimp.data.hashing import hash_uniform
from fimp.data.masking import EVALUATION
from fimp.data.recordings import Recordings
from fimp.data.scaling import RobustScale, centred
from fimp.errors import FIMPError


def check_window(window: int, patch: int) -> None:
    """Refuse windows that are not whole patches.

    Raises
    ------
    FIMPError
        If they are not, or a patch is empty.
    """
    if patch < 1:
        raise FIMPError(f"--patch: {patch} is below 1; use 20, for instance")
    if window < patch or window % patch:
        raise FIMPError(
            f"--window: {window} is no multiple of --patch {patch}; "
            f"use {max(1, round(window / patch)) * patch}, for instance"
        )


class Span(NamedTuple):
    """A stretch of a recording from which a part of a split takes windows.

    Attributes
    ----------
    recording
        Which recording.
    start, end
        Its first volume, and the one behind its last.
    part
        ``train``, ``val`` or ``test``. Windows that train start anywhere in the stretch, others where they always do.
        ``whole`` where a model is used and nothing is split.
    """

    recording: int
    start: int
    end: int
    part: str


class Places(NamedTuple):
    """Windows, n of them, that overlap by half; those of ``whole`` stretches lie side by side.

    Attributes
    ----------
    recording
        Which recording each is in, ``[n]``.
    start
        Its first volume in evaluation, ``[n]``.
    low, high
        First and last volume where it may start in training, ``[n]``; ``start`` both for one that does not train.
    part
        ``train``, ``val``, ``test`` or ``whole``, ``[n]``.
    """

    recording: NDArray[np.int64]
    start: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    part: NDArray[np.str_]

    @classmethod
    def of(cls, spans: Sequence[Span], window: int) -> Places:
        """Windows of some stretches; of those that train as many for the length, though they start anywhere.

        Of a whole stretch, every volume is in a window: the last one ends with it, and overlaps where it must.
        """
        rows: list[tuple[int, int, int, int, str]] = []
        for recording, first, end, part in spans:
            starts = list(range(first, end - window + 1, window if part == "whole" else max(1, window // 2)))
            if part == "whole" and starts[-1] + window < end:
                starts.append(end - window)
            for start in starts:
                low, high = (first, end - window) if part == "train" else (start, start)
                rows.append((recording, start, low, high, part))
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))

    def starts(self, windows: NDArray[np.int64], epoch: int, seed: int) -> NDArray[np.int64]:
        """First volumes of some windows: a function of seed, epoch and window alone."""
        if epoch == EVALUATION:
            return self.start[windows]
        low = self.low[windows]
        draw = hash_uniform(seed, 5, epoch, windows)
        return low + np.floor(draw * (self.high[windows] - low + 1)).astype(np.int64)


class Windows:
    """Scaled recordings, and the windows in them.

    Parameters
    ----------
    recordings
        From :func:`fimp.data.read_recordings`.
    spans
        Where windows are taken; two stretches of a recording are the same, or apart.
    window
        Volumes of a window.
    detrend
        Whether linear trends are removed from each recording; its means are in any case.
    seed
        Seed of where training windows start.
    scale
        How signals are scaled; measured on the stretches that train by default.
    band
        The band of frequencies that is kept. Each stretch is filtered by itself, so that nothing of what tests is in
        what trains.

    Raises
    ------
    FIMPError
        If a recording cannot be filtered.

    Attributes
    ----------
    places
        The windows.
    signals
        The scaled recordings, ``[R, T]`` each.
    scale
        The scale.
    """

    def __init__(
        self,
        recordings: Recordings,
        spans: Sequence[Span],
        window: int,
        detrend: bool,
        seed: int,
        scale: RobustScale | None = None,
        band: BandPass | None = None,
    ) -> None:
        self.window, self.seed, self.spans = window, seed, tuple(spans)
        self.places = Places.of(spans, window)
        clean = [centred(item.signal, detrend) for item in recordings.recordings]
        if band is not None:
            for index, first, end in sorted({span[:3] for span in spans}):
                item, stretch = recordings.recordings[index], clean[index][:, first:end]
                stretch[:] = band.apply(stretch, band.check(item.name, item.tr))
        training = [clean[span.recording][:, span.start : span.end] for span in spans if span.part == "train"]
        self.scale = RobustScale.fit(training, detrend) if scale is None else scale
        self.signals = [self.scale.apply(signal) for signal in clean]

    def __len__(self) -> int:
        return len(self.places.start)

    @property
    def training(self) -> list[NDArray[np.float32]]:
        """The stretches that train, scaled, ``[R, any length]`` each."""
        return [self.signals[span.recording][:, span.start : span.end] for span in self.spans if span.part == "train"]

    @property
    def notes(self) -> tuple[str, ...]:
        """A remark on regions that have no spread."""
        flat = int(self.scale.flat.sum())
        return (f"{flat} regions have no spread and are not scaled",) if flat else ()

    def read(self, windows: NDArray[np.int64], epoch: int) -> NDArray[np.float32]:
        """Signals of some windows in an epoch, ``[n, R, window]``."""
        starts = self.places.starts(windows, epoch, self.seed)
        owners = self.places.recording[windows]
        return np.stack([self.signals[i][:, at : at + self.window] for i, at in zip(owners, starts, strict=True)])


def check_lengths(recordings: Recordings, window: int) -> NDArray[np.int64]:
    """Volumes of each recording, ``[recordings]``.

    Raises
    ------
    FIMPError
        If one is shorter than a window.
    """
    for item in recordings.recordings:
        if item.signal.shape[1] < window:
            raise FIMPError(
                f"{item.name}: {item.signal.shape[1]} volumes, wanted at least a window of {window}; "
                "use a smaller --window or move the file elsewhere"
            )
    return np.array([item.signal.shape[1] for item in recordings.recordings])
