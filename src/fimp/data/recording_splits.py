"""Which stretches of recordings train, validate and test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fimp.data.recordings import Recordings
from fimp.data.windows import Span, check_lengths
from fimp.errors import FIMPError

#: Shares of subjects that test and that validate, where there are more than three.
_TEST, _VALIDATION = 0.2, 0.1


def split_recordings(recordings: Recordings, window: int, gap: int, by: str, seed: int) -> tuple[list[Span], str]:
    """Stretches of the three parts.

    By subject, each subject is in one part: of three subjects one each, and the seed says which one tests, so that
    three seeds leave out every subject once; of more, 70, 10 and 20 %. By time, or where there are fewer than three
    subjects, the last window of each recording tests, what ends a gap before it trains, and validation looks at the
    same stretch under other masks.

    Parameters
    ----------
    recordings
        From :func:`fimp.data.read_recordings`.
    window, gap
        Volumes of a window, and of the gap.
    by
        ``subject`` or ``time``.
    seed
        Seed of who is where.

    Returns
    -------
    tuple
        The stretches, and a remark for the user.

    Raises
    ------
    FIMPError
        If a recording is too short.
    """
    lengths = check_lengths(recordings, window).tolist()
    subjects = recordings.subjects
    count = int(subjects.max()) + 1
    if by == "time" or count < 3:
        return _by_time(recordings, lengths, window, gap, count)
    parts = _parts(count, seed)
    names = np.array([item.subject for item in recordings.recordings])
    said = [f"{part} {_listed(np.unique(names[np.isin(subjects, who)]).tolist())}" for part, who in parts.items()]
    spans = [
        Span(index, 0, lengths[index], part)
        for part, who in parts.items()
        for index in np.flatnonzero(np.isin(subjects, who)).tolist()
    ]
    return spans, f"split by subject, another for every seed; seed {seed}: {', '.join(said)}"


def whole_recordings(recordings: Recordings) -> tuple[list[Span], str]:
    """Every recording as one stretch, for a model that is used on them; and a remark, as :func:`split_recordings`."""
    spans = [Span(index, 0, item.signal.shape[1], "whole") for index, item in enumerate(recordings.recordings)]
    return spans, "windows lie side by side, the last one of a recording at its end"


def _parts(count: int, seed: int) -> dict[str, list[int]]:
    """Numbers of the subjects of each part."""
    if count == 3:
        return {"train": [(seed + 1) % 3], "val": [(seed + 2) % 3], "test": [seed % 3]}
    order = np.random.default_rng([seed, 31]).permutation(count).tolist()
    test, val = max(1, round(_TEST * count)), max(1, round(_VALIDATION * count))
    return {"train": order[test + val :], "val": order[test : test + val], "test": order[:test]}


def _by_time(
    recordings: Recordings, lengths: Sequence[int], window: int, gap: int, subjects: int
) -> tuple[list[Span], str]:
    spans = []
    for index, length in enumerate(lengths):
        end = length - window - gap
        if end < window:
            raise FIMPError(
                f"{recordings.recordings[index].name}: {length} volumes, wanted at least {2 * window + gap} (two "
                "windows and a patch between them) for a split by time; use a smaller --window, or three subjects or "
                "more and --split subject"
            )
        spans += [Span(index, 0, end, "train"), Span(index, 0, end, "val"), Span(index, end + gap, length, "test")]
    few = f" ({subjects} subject{'s' if subjects > 1 else ''})" if subjects < 3 else ""
    return spans, f"split by time{few}: the last window of each recording tests, behind a gap of {gap} volumes"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
