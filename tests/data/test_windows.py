from dataclasses import replace

import numpy as np
import pytest

from fimp.data.band_pass import BandPass
from fimp.data.masking import EVALUATION
from fimp.data.recordings import Recording, Recordings
from fimp.data.regions import Regions
from fimp.data.scaling import RobustScale, centred
from fimp.data.windows import Places, Span, Windows, check_lengths, check_window
from fimp.errors import FIMPError

SPANS = [Span(0, 0, 50, "train"), Span(0, 0, 50, "val"), Span(1, 5, 40, "test")]


@pytest.fixture
def recordings():
    rng = np.random.default_rng(0)
    items = [Recording(f"{n}.npy", str(n), 5.0 + (n + 1) * rng.standard_normal((3, 60))) for n in range(2)]
    return Recordings("test", tuple(items), Regions(rng.standard_normal((3, 3)), ("a", "b", "c")))


def test_windows_overlap_by_half_and_those_that_train_move():
    places = Places.of(SPANS, 20)
    assert places.recording.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert places.start.tolist() == [0, 10, 20, 30, 0, 10, 20, 30, 5, 15]
    assert places.part.tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 2
    every = np.arange(10)
    starts = np.stack([places.starts(every, epoch, 0) for epoch in range(300)])
    for window in range(4):
        assert set(starts[:, window]) == set(range(31))
    assert (starts[:, 4:] == places.start[4:]).all()
    assert places.starts(every, EVALUATION, 0).tolist() == places.start.tolist()
    assert places.starts(every[2:3], 7, 0)[0] == starts[7, 2]


def test_whole_recordings_are_covered_side_by_side():
    places = Places.of([Span(0, 0, 50, "whole"), Span(1, 0, 40, "whole")], 20)
    assert places.recording.tolist() == [0, 0, 0, 1, 1]
    assert places.start.tolist() == [0, 20, 30, 0, 20]
    assert places.starts(np.arange(5), 3, 0).tolist() == places.start.tolist()


def test_each_stretch_is_filtered_by_itself(recordings):
    band, items = BandPass(0.02, 0.1), recordings.recordings
    spans = [Span(0, 0, 30, "train"), Span(0, 0, 30, "val"), Span(0, 35, 60, "test"), Span(1, 0, 60, "test")]
    timed = replace(recordings, recordings=tuple(replace(item, tr=2.0) for item in items))
    windows = Windows(timed, spans, 20, True, 0, band=band)
    clean = [centred(item.signal) for item in items]
    for index, start, end in ((0, 0, 30), (0, 35, 60), (1, 0, 60)):
        wanted = windows.scale.apply(band.apply(clean[index][:, start:end], 2.0))
        np.testing.assert_array_equal(windows.signals[index][:, start:end], wanted)
    with pytest.raises(FIMPError, match=r"0\.npy: does not say how many seconds"):
        Windows(recordings, spans, 20, True, 0, band=band)


def test_the_scale_is_that_of_what_trains(recordings):
    windows = Windows(recordings, SPANS, 20, True, 0)
    clean = [centred(item.signal) for item in recordings.recordings]
    wanted = RobustScale.fit([clean[0][:, :50]])
    np.testing.assert_array_equal(windows.scale.iqr, wanted.iqr)
    np.testing.assert_array_equal(windows.signals[1], wanted.apply(clean[1]))
    (training,) = windows.training
    np.testing.assert_array_equal(training, wanted.apply(clean[0])[:, :50])
    np.testing.assert_array_equal(windows.read(np.array([8]), 3)[0], windows.signals[1][:, 5:25])
    assert windows.notes == ()
    given = Windows(recordings, SPANS, 20, True, 0, RobustScale.fit([clean[1]]))
    assert not np.array_equal(given.signals[0], windows.signals[0])


@pytest.mark.parametrize(("window", "patch", "words"), [(20, 0, "--patch: 0"), (21, 5, "use 20"), (3, 5, "use 5")])
def test_windows_are_whole_patches(window, patch, words):
    with pytest.raises(FIMPError, match=words):
        check_window(window, patch)
    check_window(20, 5)


def test_recordings_are_as_long_as_a_window(recordings):
    assert check_lengths(recordings, 60).tolist() == [60, 60]
    with pytest.raises(FIMPError, match=r"0\.npy: 60 volumes, wanted at least a window of 61"):
        check_lengths(recordings, 61)
