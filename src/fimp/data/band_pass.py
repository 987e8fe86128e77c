"""Recordings without what is slower or faster than a band of frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

#: Order of the filter, which is applied forwards and backwards.
_ORDER = 2


@dataclass(frozen=True)
class BandPass:
    """A Butterworth filter of order 2, forwards and backwards, so that nothing is shifted in time.

    At the edges of the band half of the amplitude passes. What comes out at a time is made of values before and after
    it, over about a period of ``low``.

    Attributes
    ----------
    low, high
        Edges of the band in Hz; with a ``low`` of 0, all that is slower than ``high`` passes.

    Raises
    ------
    FIMPError
        If they are no band.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high < math.inf:
            raise FIMPError(
                f"--band-pass: {self.low:g} {self.high:g} is no band, wanted two frequencies in Hz, the lower one "
                "first and not below 0; use 0.01 0.1, for instance"
            )

    def check(self, name: str, tr: float | None) -> float:
        """Refuse a recording that it cannot be used on.

        Parameters
        ----------
        name
            The recording's file.
        tr
            Seconds per volume.

        Returns
        -------
        float
            ``tr``.

        Raises
        ------
        FIMPError
            If ``tr`` is not known, or the band ends above half of the sampling frequency.
        """
        if tr is None:
            raise FIMPError(
                f"{name}: does not say how many seconds a volume takes, which --band-pass must know; give them by --tr"
            )
        nyquist = 0.5 / tr
        if self.high >= nyquist:
            raise FIMPError(
                f"{name}: --band-pass {self.low:g} {self.high:g} ends at or above {nyquist:g} Hz, half of the sampling "
                f"frequency with {tr:g} s per volume; use a band below, or correct the seconds per volume"
            )
        return tr

    def apply(self, signal: NDArray[np.float32], tr: float) -> NDArray[np.float32]:
        """Filter a stretch of a recording, as if nothing were known before and behind it.

        Parameters
        ----------
        signal
            Centred, ``[R, T]``.
        tr
            Seconds per volume, from :meth:`check`.

        Returns
        -------
        ndarray
            ``[R, T]``; regions that are zero stay zero.
        """
        from scipy.signal import butter, sosfiltfilt

        edges, kind = (self.high, "lowpass") if self.low == 0.0 else ((self.low, self.high), "bandpass")
        sections = butter(_ORDER, edges, kind, fs=1.0 / tr, output="sos")
        # Turned about its ends, a stretch goes on for a period of the slowest that the filter must tell from the rest.
        padding = min(math.ceil(1.0 / ((self.low or self.high) * tr)), signal.shape[1] - 1)
        filtered = sosfiltfilt(sections, signal.astype(np.float64), axis=1, padlen=padding)
        return np.asarray(filtered, dtype=np.float32)
