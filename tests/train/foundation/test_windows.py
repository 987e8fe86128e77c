import numpy as np
import pytest

from fimp.data.masking import EVALUATION
from fimp.data.recordings import Recording, Recordings
from fimp.data.regions import Regions
from fimp.data.scaling import RobustScale, centred
from fimp.data.simulate import recording
from fimp.errors import FIMPError
from fimp.train.foundation.windows import RecordingWindows, WindowOptions

R = 4
OPTIONS = WindowOptions(window=20, patch=5)


def made(lengths, subjects):
    items = [
        Recording(f"{number}.npy", subject, recording(n_regions=R, n_times=length, subject=number).signal)
        for number, (length, subject) in enumerate(zip(lengths, subjects, strict=True))
    ]
    xyz = recording(n_regions=R, n_times=2).xyz
    return Recordings("test", tuple(items), Regions(xyz, tuple("abcd")))


def covered(windows, validates, epochs):
    """Volumes of each recording that windows of a part reach."""
    chosen = np.flatnonzero((windows.places.part == "val") == validates)
    out = {}
    for epoch in epochs:
        for owner, start in zip(windows.places.recording[chosen], windows.places.starts(chosen, epoch, 0), strict=True):
            out.setdefault(int(owner), set()).update(range(start, start + OPTIONS.window))
    return out


def test_no_subject_is_in_two_parts():
    subjects = ["a", "b", "a", "c", "b", "d", "d", "e"]
    for seed in range(5):
        places = RecordingWindows(made([50] * 8, subjects), OPTIONS, seed).places
        owners = np.array(subjects)[places.recording]
        assert not set(owners[places.part == "val"]) & set(owners[places.part == "train"])
        assert len(set(owners[places.part == "val"])) == 1
        assert set(owners) == set(subjects)


def test_windows_that_validate_are_fixed_and_overlap_by_half():
    windows = RecordingWindows(made([60, 45], ["a", "b"]), OPTIONS, 0)
    places = windows.places
    val, train = np.flatnonzero(places.part == "val"), np.flatnonzero(places.part == "train")
    length = 60 if places.recording[val[0]] == 0 else 45
    assert places.start[val].tolist() == list(range(0, length - 19, 10))
    for epoch in (EVALUATION, 0, 7):
        assert np.array_equal(places.starts(val, epoch, 0), places.start[val])
    assert np.array_equal(places.starts(train, EVALUATION, 0), places.start[train])
    draws = [tuple(places.starts(train, epoch, 0)) for epoch in range(20)]
    assert len(set(draws)) > 10
    assert draws[3] == tuple(places.starts(train[::-1], 3, 0))[::-1]
    assert draws[3] != tuple(places.starts(train, 3, 1))


def test_training_windows_start_anywhere_and_nowhere_else():
    windows = RecordingWindows(made([31, 31], ["a", "b"]), OPTIONS, 0)
    train = np.flatnonzero(windows.places.part == "train")
    starts = {int(start) for epoch in range(200) for start in windows.places.starts(train, epoch, 0)}
    assert starts == set(range(12))


def test_one_subject_is_split_by_time_with_a_gap():
    windows = RecordingWindows(made([47, 80, 200, 30], ["a"] * 4), OPTIONS, 0)
    train, val = covered(windows, False, range(300)), covered(windows, True, [EVALUATION])
    assert set(train) == {0, 1, 2, 3}  # a recording too short to divide trains
    assert set(val) == {0, 1, 2}
    for owner, volumes in val.items():
        assert min(volumes) - max(train[owner]) > OPTIONS.patch
    assert min(val[2]) == 200 - 25
    assert max(train[2]) == 200 - 25 - OPTIONS.patch - 1


def test_the_scale_is_that_of_training_parts():
    several = made([50, 60, 70], ["a", "b", "c"])
    windows = RecordingWindows(several, OPTIONS, 0)
    held = set(windows.places.recording[windows.places.part == "val"])
    clean = [centred(item.signal) for item in several.recordings]
    wanted = RobustScale.fit([signal for index, signal in enumerate(clean) if index not in held])
    np.testing.assert_array_equal(windows.scale.iqr, wanted.iqr)
    np.testing.assert_array_equal(windows.signals[0], wanted.prepare(several.recordings[0].signal))
    alone = made([80], ["a"])
    wanted = RobustScale.fit([centred(alone.recordings[0].signal)[:, : 80 - 20 - 5]])
    np.testing.assert_array_equal(RecordingWindows(alone, OPTIONS, 0).scale.median, wanted.median)


def test_what_is_read_is_the_signal_at_the_start():
    windows = RecordingWindows(made([50, 60], ["a", "b"]), OPTIONS, 0)
    nodes = np.arange(len(windows))[::-1]
    found = windows.read(nodes, 4)
    assert (found.shape, found.dtype) == ((len(nodes), R, 20), np.float32)
    for row, start in enumerate(windows.places.starts(nodes, 4, 0)):
        signal = windows.signals[windows.places.recording[nodes[row]]]
        np.testing.assert_array_equal(found[row], signal[:, start : start + 20])


def test_the_user_is_told_who_validates():
    (note,) = RecordingWindows(made([50, 60], ["a", "b"]), OPTIONS, 0).notes
    assert note in ("1 subjects train, 1 validate: a", "1 subjects train, 1 validate: b")
    assert "one subject" in RecordingWindows(made([50], ["a"]), OPTIONS, 0).notes[0]


def test_recordings_that_are_too_short_are_one_line():
    with pytest.raises(FIMPError, match=r"1\.npy: 19 volumes, wanted at least a window of 20"):
        RecordingWindows(made([50, 19], ["a", "b"]), OPTIONS, 0)
    with pytest.raises(FIMPError, match=r"one subject, 44 volumes at most.*45 volumes"):
        RecordingWindows(made([44, 30], ["a", "a"]), OPTIONS, 0)
    RecordingWindows(made([45], ["a"]), OPTIONS, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 0}, "--patch: 0 is below 1"),
        ({"window": 150}, "--window: 150 is no multiple of --patch 20; use 160"),
        ({"window": 0}, "--window: 0 is no multiple"),
        ({"mask_ratio": 0.0}, "--mask-ratio: 0.0 is outside"),
        ({"mask_ratio": float("nan")}, "--mask-ratio: nan is outside"),
    ],
)
def test_options_that_make_no_sense_are_one_line(options, message):
    with pytest.raises(FIMPError, match=message):
        WindowOptions(**options)
