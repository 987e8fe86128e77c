import numpy as np
import pytest

from fimp.data.recording_splits import split_recordings, whole_recordings
from fimp.data.recordings import Recording, Recordings
from fimp.data.regions import Regions
from fimp.data.windows import Windows
from fimp.errors import FIMPError

WINDOW, GAP = 20, 5


def made(subjects, length=60):
    rng = np.random.default_rng(0)
    items = [Recording(f"{n}.npy", who, rng.standard_normal((3, length))) for n, who in enumerate(subjects)]
    return Recordings("test", tuple(items), Regions(rng.standard_normal((3, 3)), ("a", "b", "c")))


def who(recordings, spans):
    out = {"train": set(), "val": set(), "test": set()}
    for span in spans:
        out[span.part].add(recordings.recordings[span.recording].subject)
    return out


def test_three_seeds_leave_out_each_of_three_subjects_once():
    recordings = made(["a", "b", "c", "a"])
    parts = [who(recordings, split_recordings(recordings, WINDOW, GAP, "subject", seed)[0]) for seed in range(3)]
    for name in ("train", "val", "test"):
        assert [len(part[name]) for part in parts] == [1, 1, 1]
        assert set().union(*(part[name] for part in parts)) == {"a", "b", "c"}
    for part in parts:
        assert set().union(*part.values()) == {"a", "b", "c"}


@pytest.mark.parametrize(("count", "sizes"), [(4, (2, 1, 1)), (10, (7, 1, 2)), (20, (14, 2, 4))])
def test_more_subjects_are_shared_out_and_no_one_is_in_two_parts(count, sizes):
    recordings = made([f"s{number % count}" for number in range(2 * count)])
    seen = set()
    for seed in range(4):
        spans, note = split_recordings(recordings, WINDOW, GAP, "subject", seed)
        parts = who(recordings, spans)
        assert tuple(len(parts[name]) for name in ("train", "val", "test")) == sizes
        assert len(set().union(*parts.values())) == count
        assert len(spans) == 2 * count
        seen.add(tuple(sorted(parts["test"])))
        assert f"seed {seed}: train " in note
    assert len(seen) > 1


@pytest.mark.parametrize(("subjects", "by"), [(["a", "b"], "subject"), (["a"], "subject"), (["a", "b", "c"], "time")])
def test_by_time_there_is_a_gap_before_the_last_window(subjects, by):
    recordings = made(subjects)
    spans, note = split_recordings(recordings, WINDOW, GAP, by, 0)
    assert "split by time" in note
    windows = Windows(recordings, spans, WINDOW, True, 0)
    places = windows.places
    for index in range(len(subjects)):
        mine = places.recording == index
        assert places.start[mine & (places.part == "test")].tolist() == [40]
        train = np.flatnonzero(mine & (places.part == "train"))
        last = max(int(places.starts(train, epoch, 0).max()) for epoch in range(200)) + WINDOW - 1
        assert last == 40 - GAP - 1
        val = mine & (places.part == "val")
        assert places.start[val].tolist() == places.start[train].tolist() == [0, 10]
        assert (places.low[val] == places.high[val]).all()


def test_recordings_too_short_are_one_line():
    for recordings, by, words in (
        (made(["a"], 44), "subject", "at least 45"),
        (made(["a"] * 3, 19), "time", "window of 20"),
    ):
        with pytest.raises(FIMPError, match=words) as error:
            split_recordings(recordings, WINDOW, GAP, by, 0)
        assert "\n" not in str(error.value)


def test_whole_recordings_are_in_no_part():
    spans, note = whole_recordings(made(["a", "b"], 47))
    assert [tuple(span) for span in spans] == [(0, 0, 47, "whole"), (1, 0, 47, "whole")]
    assert "side by side" in note
