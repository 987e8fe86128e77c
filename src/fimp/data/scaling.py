"""From scanner units to values that a model can compare: detrending, and robust scaling per region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError


def unusable_regions(signal: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Regions that say nothing: with NaN or infinite values, or constant up to rounding; ``[R]`` of ``[R, T]``."""
    broken = ~np.isfinite(signal).all(axis=1)
    with np.errstate(invalid="ignore"):
        spread = np.where(broken[:, None], 0.0, signal).astype(np.float64)
    largest = np.abs(spread).max(axis=1)
    return broken | (np.ptp(spread, axis=1) <= 1e-6 * largest)


def centred(signal: NDArray[np.floating], detrend: bool = True) -> NDArray[np.float32]:
    """A recording without its offsets and, with ``detrend``, without its linear trends.

    Parameters
    ----------
    signal
        ``[R, T]``.
    detrend
        Whether to remove the line of least squares of each region; otherwise its mean alone.

    Returns
    -------
    ndarray
        ``[R, T]``; :func:`unusable_regions` are zero.
    """
    from scipy.signal import detrend as remove

    useless = unusable_regions(signal)
    values = np.where(useless[:, None], 0.0, signal).astype(np.float64)
    out = remove(values, axis=1, type="linear" if detrend else "constant").astype(np.float32)
    # The line through zeros is zero only up to rounding.
    out[useless] = 0.0
    return out


@dataclass(frozen=True)
class RobustScale:
    """Median and inter-quartile range of each region across recordings.

    Attributes
    ----------
    median, iqr
        Of centred signals, ``[R]``; ``iqr`` is 1 for regions without spread.
    detrend
        How signals were centred.
    flat
        Regions without spread, ``[R]``.
    """

    median: NDArray[np.float64]
    iqr: NDArray[np.float64]
    detrend: bool
    flat: NDArray[np.bool_]

    @classmethod
    def fit(cls, signals: Sequence[NDArray[np.floating]], detrend: bool = True) -> RobustScale:
        """Measure recordings.

        Parameters
        ----------
        signals
            From :func:`centred`, ``[R, any length]`` each: training recordings alone. Where a region is zero all along,
            the recording says nothing of it.
        detrend
            How they were centred.

        Raises
        ------
        FIMPError
            If there is none.
        """
        if not signals:
            raise FIMPError("RobustScale: no recordings to fit; give at least one")
        median, iqr = np.zeros(len(signals[0])), np.zeros(len(signals[0]))
        for region in range(len(median)):
            rows = [signal[region] for signal in signals if signal[region].any()]
            if rows:
                low, median[region], high = np.quantile(np.concatenate(rows).astype(np.float64), (0.25, 0.5, 0.75))
                iqr[region] = high - low
        flat = iqr <= 0.0
        return cls(median, np.where(flat, 1.0, iqr), detrend, flat)

    def apply(self, signal: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale a centred recording ``[R, T]``; regions that are zero stay zero.

        Raises
        ------
        FIMPError
            If it has another number of regions.
        """
        if len(signal) != len(self.median):
            raise FIMPError(f"RobustScale: {len(signal)} regions, wanted {len(self.median)}; use the same parcellation")
        scaled = (signal - self.median[:, None]) / self.iqr[:, None]
        silent = np.abs(signal).max(axis=1) == 0.0
        scaled[silent] = 0.0
        return np.asarray(scaled, dtype=np.float32)

    def undo(self, signal: NDArray[np.floating]) -> NDArray[np.float64]:
        """A scaled signal ``[R, T]`` in the units of the recording, still centred."""
        return signal * self.iqr[:, None] + self.median[:, None]

    def prepare(self, signal: NDArray[np.floating]) -> NDArray[np.float32]:
        """Centre and scale a recording in its own units, ``[R, T]``: what a model trained with this scale reads."""
        return self.apply(centred(signal, self.detrend))
