"""Windows of recordings for pretraining: which of them validate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fimp.data.recordings import Recordings
from fimp.data.windows import Span, Windows, check_lengths, check_window
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

    Raises
    ------
    FIMPError
        If a value is outside its range.
    """

    window: int = 160
    patch: int = 20
    mask_ratio: float = 0.75
    detrend: bool = True

    def __post_init__(self) -> None:
        check_window(self.window, self.patch)
        if not 0.0 < self.mask_ratio < 1.0:
            raise FIMPError(f"--mask-ratio: {self.mask_ratio} is outside (0, 1); use 0.75, for instance")


class RecordingWindows(Windows):
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

    Raises
    ------
    FIMPError
        If a recording is shorter than a window, or the only subject's recordings are too short to hold a part out.
    """

    def __init__(self, recordings: Recordings, options: WindowOptions, seed: int) -> None:
        self.options = options
        lengths = check_lengths(recordings, options.window)
        subjects = recordings.subjects
        if subjects.max() > 0:
            chosen = split_groups(subjects, seed)["val"]
            ends = np.where(np.isin(np.arange(len(lengths)), chosen), 0, lengths)
            held = sorted({recordings.recordings[index].subject for index in chosen})
            more = f" and {len(held) - 3} more" if len(held) > 3 else ""
            self._note = (
                f"{subjects.max() + 1 - len(held)} subjects train, {len(held)} validate: {', '.join(held[:3])}{more}"
            )
        else:
            ends = self._ends(lengths, recordings)
            self._note = "one subject: the end of its recordings validates, at least a window"
        spans = []
        for index, (length, end) in enumerate(zip(lengths.tolist(), ends.tolist(), strict=True)):
            spans.append(Span(index, 0, end, "train"))
            spans.append(Span(index, end + options.patch if end else 0, length, "val"))
        spans = [span for span in spans if span.end - span.start >= options.window]
        super().__init__(recordings, spans, options.window, options.detrend, seed)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user."""
        return (self._note, *super().notes)

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
