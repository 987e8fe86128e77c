import numpy as np

from fimp.data.recordings import Recording, Recordings
from fimp.data.regions import Regions
from fimp.data.window_mixing import STRAY, mixed
from fimp.data.windows import Span, Windows

R, T, WINDOW = 4, 300, 40


def made():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(T)
    signals = [scale * (shared + 0.5 * rng.standard_normal((R, T))) for scale in (1.0, 5.0, 1.0)]
    items = [Recording(f"{number}.npy", str(number), signal) for number, signal in enumerate(signals)]
    recordings = Recordings("test", tuple(items), Regions(rng.standard_normal((R, 3)), tuple("abcd")))
    spans = [Span(0, 0, T, "train"), Span(1, 0, 200, "train"), Span(2, 0, T, "test")]
    return Windows(recordings, spans, WINDOW, True, 3)


def test_mixtures_are_of_seed_epoch_and_window_alone():
    windows = made()
    train = np.flatnonzero(windows.places.part == "train")
    first = mixed(windows, train, 0)
    assert first.shape == (len(train), R, WINDOW)
    np.testing.assert_array_equal(mixed(windows, train[::-1], 0)[::-1], first)
    np.testing.assert_array_equal(mixed(windows, train[3:4], 0)[0], first[3])
    assert not np.array_equal(mixed(windows, train, 1), first)
    windows.seed = 4
    assert not np.array_equal(mixed(windows, train, 0), first)


def test_nothing_comes_from_what_does_not_train():
    windows = made()
    train = np.flatnonzero(windows.places.part == "train")
    before = [mixed(windows, train, epoch) for epoch in range(20)]
    windows.signals[2][:] = np.nan
    windows.signals[1][:, 200:] = np.nan
    for epoch, signals in enumerate(before):
        np.testing.assert_array_equal(mixed(windows, train, epoch), signals)


def test_variance_stays_and_what_regions_share_is_weakened():
    windows = made()
    train = np.flatnonzero((windows.places.part == "train") & (windows.places.recording == 0))
    signals = np.concatenate([mixed(windows, train, epoch) for epoch in range(200)])
    plain = np.concatenate([windows.read(train, epoch) for epoch in range(200)])
    power, wanted = (np.square(one).mean((0, 2)) for one in (signals, plain))
    np.testing.assert_allclose(power, wanted, rtol=0.15)
    ties = [np.einsum("nrt,nst->rs", one, one) for one in (signals, plain)]
    ties = [tie / np.sqrt(np.outer(np.diag(tie), np.diag(tie))) for tie in ties]
    apart = ~np.eye(R, dtype=bool)
    np.testing.assert_allclose(ties[0][apart], (1 - STRAY) * ties[1][apart], atol=0.06)
