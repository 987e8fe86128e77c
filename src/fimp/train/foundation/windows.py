"""Windows of recordings: where they start, which of them validate, and how their signals are scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimp.data.hashing import hash_uniform
from fimp.data.masking import EVALUATION
from fimp.data.recordings import Recordings
from fimp.data.scaling import RobustScale, centred
from fimp.errors import FIMPError
from fimp.train.foundation.masked import split_groups

#: One over the share of a recording's end that validates where there is one subject.
_HELD_OUT = 8


@dataclass(frozen=True)
class WindowOptions:
    """What a masked autoencoder is shown of a recording.

    Attributes
    ----------
    window, patch
        Volumes of a window and of a token; a window is whole patches.
    mask_ratio
        Share of a window's tokens, over all regions, that are hidden.
    detrend
        Whether linear trends are removed from each recording.
    """

    window: int = 160
    patch: int = 20
    mask_ratio: float = 0.75
    detrend: bool = True

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise FIMPError(f"--patch: {self.patch} is below 1; use 20, for instance")
        if self.window < self.patch or self.window % self.patch:
            raise FIMPError(
                f"--window: {self.window} is no multiple of --patch {self.patch}; "
                f"use {max(1, round(self.window / self.patch)) * self.patch}, for instance"
            )
        if not 0.0 < self.mask_ratio < 1.0:
            raise FIMPError(f"--mask-ratio: {self.mask_ratio} is outside (0, 1); use 0.75, for instance")


class Places(NamedTuple):
    """Windows, n of them.

    Attributes
    ----------
    recording
        Which recording each is in, ``[n]``.
    start
        Its first volume in evaluation, ``[n]``.
    low, high
        First and last volume where it may start in training, ``[n]``; ``start`` both for one that validates.
    validates
        ``[n]``.
    """

    recording: NDArray[np.int64]
    start: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    validates: NDArray[np.bool_]

    def starts(self, windows: NDArray[np.int64], epoch: int, seed: int) -> NDArray[np.int64]:
        """First volumes of some windows: a function of seed, epoch and window alone."""
        if epoch == EVALUATION:
            return self.start[windows]
        low = self.low[windows]
        draw = hash_uniform(seed, 5, epoch, windows)
        return low + np.floor(draw * (self.high[windows] - low + 1)).astype(np.int64)


class RecordingWindows:
    """Scaled recordings, and the windows in them.

    Subjects stay together; about an eighth of them, and at least one, validates. Of a single subject the last eighth of
    each recording does, at least a window, and the patch before it is not used at all. Windows that validate overlap
    by half; windows that train are as many for the length, and start anywhere.

    Parameters
    ----------
    recordings
        From :func:`fimp.data.read_recordings`.
    options
        Length of windows, and whether trends are removed.
    seed
        Seed of everything that is drawn.

    Attributes
    ----------
    places
        The windows.
    signals
        The scaled recordings, ``[R, T]`` each.
    scale
        How they were scaled: as training parts of recordings say.
    notes
        Remarks for the user.

    Raises
    ------
    FIMPError
        If a recording is shorter than a window, or the only subject's recordings are too short to hold a part out.
    """

    def __init__(self, recordings: Recordings, options: WindowOptions, seed: int) -> None:
        self.options, self.seed = options, seed
        for item in recordings.recordings:
            if item.signal.shape[1] < options.window:
                raise FIMPError(
                    f"{item.name}: {item.signal.shape[1]} volumes, wanted at least a window of {options.window}; "
                    "use a smaller --window or move the file elsewhere"
                )
        lengths = np.array([item.signal.shape[1] for item in recordings.recordings])
        subjects = recordings.subjects
        if subjects.max() > 0:
            chosen = split_groups(subjects, seed)["val"]
            ends = np.where(np.isin(np.arange(len(lengths)), chosen), 0, lengths)
            held = sorted({recordings.recordings[index].subject for index in chosen})
            more = f" and {len(held) - 3} more" if len(held) > 3 else ""
            note = f"{subjects.max() + 1 - len(held)} subjects train, {len(held)} validate: {', '.join(held[:3])}{more}"
        else:
            ends = self._ends(lengths, recordings)
            note = "one subject: the end of its recordings validates, at least a window"
        self.places = self._places(lengths, ends)
        clean = [centred(item.signal, options.detrend) for item in recordings.recordings]
        training = [signal[:, :end] for signal, end in zip(clean, ends, strict=True) if end]
        self.scale = RobustScale.fit(training, options.detrend)
        self.signals = [self.scale.apply(signal) for signal in clean]
        flat = int(self.scale.flat.sum())
        self.notes = (note, *([f"{flat} regions have no spread and are not scaled"] if flat else []))

    def __len__(self) -> int:
        return len(self.places.start)

    def read(self, windows: NDArray[np.int64], epoch: int) -> NDArray[np.float32]:
        """Signals of some windows in an epoch, ``[n, R, window]``."""
        starts = self.places.starts(windows, epoch, self.seed)
        owners = self.places.recording[windows]
        length = self.options.window
        return np.stack([self.signals[i][:, at : at + length] for i, at in zip(owners, starts, strict=True)])

    def _ends(self, lengths: NDArray[np.int64], recordings: Recordings) -> NDArray[np.int64]:
        """Where the training parts of a single subject's recordings end; the whole of those too short to divide."""
        window, patch = self.options.window, self.options.patch
        ends = lengths - np.maximum(window, lengths // _HELD_OUT) - patch
        if (ends < window).all():
            raise FIMPError(
                f"{recordings.name}: one subject, {lengths.max()} volumes at most, and none to validate on; wanted "
                f"another subject, or {2 * window + patch} volumes (two windows and a patch): use a smaller --window"
            )
        out: NDArray[np.int64] = np.where(ends < window, lengths, ends)
        return out

    def _places(self, lengths: NDArray[np.int64], ends: NDArray[np.int64]) -> Places:
        """Windows of the training parts, which end at ``ends``, and of what is behind them."""
        window, gap = self.options.window, self.options.patch
        step = max(1, window // 2)
        rows: list[tuple[int, int, int, int, bool]] = []
        for index, (length, end) in enumerate(zip(lengths.tolist(), ends.tolist(), strict=True)):
            rows += [(index, start, 0, end - window, False) for start in range(0, end - window + 1, step)]
            behind = end + gap if end else 0
            rows += [(index, start, start, start, True) for start in range(behind, length - window + 1, step)]
        recording, start, low, high, validates = (np.array(column) for column in zip(*rows, strict=True))
        return Places(recording, start, low, high, validates)
