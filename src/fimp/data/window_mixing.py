"""New windows out of few recordings, for training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fimp.data.hashing import hash_uniform
from fimp.data.windows import Windows

#: Share of a region's variance that comes from another time than its window's.
STRAY = 0.15


def mixed(windows: Windows, chosen: NDArray[np.int64], epoch: int) -> NDArray[np.float32]:
    """Signals of some training windows in an epoch, ``[n, R, window]``, mixed so that one recording gives many.

    1. A window is added to another one, with weights whose squares add up to 1. Sums of stationary Gaussian signals
       have the covariance that each has, so that nothing of what can be learned changes, but no two windows are alike.
    2. A share of every region's signal (:data:`STRAY`) is its own at another time. This weakens what regions have in
       common, which a single recording overstates, as shrinking a covariance does.

    All of it comes from stretches that train, and is a function of seed, epoch and window.

    Parameters
    ----------
    windows
        The recordings.
    chosen
        Windows that train.
    epoch
        The epoch.
    """
    places, seed = windows.places, windows.seed
    training = np.flatnonzero(places.part == "train")
    out = windows.read(chosen, epoch)
    partner = training[_draw(len(training), seed, 9, epoch, chosen)]
    room = places.high[partner] - places.low[partner] + 1
    start = places.low[partner] + _draw(room, seed, 10, epoch, chosen)
    region = np.arange(out.shape[1])
    strays = places.low[partner][:, None] + _draw(room[:, None], seed, 12, epoch, chosen[:, None], region)
    angle = 0.5 * np.pi * hash_uniform(seed, 11, epoch, chosen)
    for row, signal in enumerate(windows.signals[index] for index in places.recording[partner]):
        length = windows.window
        other = signal[:, start[row] : start[row] + length]
        stray = np.stack([signal[k, at : at + length] for k, at in enumerate(strays[row].tolist())])
        whole = np.cos(angle[row]) * out[row] + np.sin(angle[row]) * _as_strong(other, out[row])
        out[row] = np.sqrt(1.0 - STRAY) * whole + np.sqrt(STRAY) * _as_strong(stray, out[row])
    return out


def _draw(count: int | NDArray[np.int64], *keys: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 to below ``count``."""
    drawn: NDArray[np.int64] = np.floor(hash_uniform(*keys) * count).astype(np.int64)
    return drawn


def _as_strong(signal: NDArray[np.float32], model: NDArray[np.float32]) -> NDArray[np.float32]:
    """A signal of the root mean square of another: recordings of other subjects are stronger or weaker."""
    own, wanted = (float(np.sqrt(np.mean(np.square(one, dtype=np.float64)))) for one in (signal, model))
    return signal * np.float32(wanted / own if own > 0.0 else 0.0)
