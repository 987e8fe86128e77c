import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimp.data.scaling import RobustScale, centred, unusable_regions
from fimp.data.simulate import recording
from fimp.errors import FIMPError

SIGNAL = recording(n_regions=5, n_times=80).signal


@given(st.floats(-1e4, 1e4), st.floats(-50, 50))
def test_offsets_and_trends_do_not_matter(offset, slope):
    moved = SIGNAL.astype(np.float64) + offset + slope * np.arange(80)
    np.testing.assert_allclose(centred(moved), centred(SIGNAL), atol=1e-2)


def test_without_detrending_only_the_mean_goes():
    found = centred(SIGNAL, detrend=False)
    np.testing.assert_allclose(found, SIGNAL - SIGNAL.mean(1, keepdims=True, dtype=np.float64), atol=1e-3)
    assert not np.allclose(found, centred(SIGNAL))


@pytest.mark.parametrize("constant", [0.0, 812.3, -1e6, 1e-12])
def test_regions_that_say_nothing_become_zeros(constant):
    signal = SIGNAL.astype(np.float64)
    signal[1], signal[2, 5], signal[3, 0] = constant, np.nan, np.inf
    assert unusable_regions(signal).tolist() == [False, True, True, True, False]
    assert not centred(signal)[1:4].any()
    np.testing.assert_array_equal(centred(signal)[[0, 4]], centred(SIGNAL)[[0, 4]])


def test_the_scale_is_that_of_all_training_recordings():
    signals = [centred(recording(n_regions=5, n_times=length, subject=length).signal) for length in (60, 90)]
    scale = RobustScale.fit(signals)
    low, middle, high = np.quantile(np.concatenate(signals, 1).astype(np.float64), (0.25, 0.5, 0.75), axis=1)
    np.testing.assert_allclose(scale.median, middle)
    np.testing.assert_allclose(scale.iqr, high - low)
    together = np.concatenate([scale.apply(signal) for signal in signals], 1)
    np.testing.assert_allclose(np.median(together, 1), 0, atol=1e-6)
    np.testing.assert_allclose(scale.prepare(SIGNAL), scale.apply(centred(SIGNAL)))


def test_silent_regions_are_not_measured_and_stay_zero():
    one, other = centred(SIGNAL), centred(recording(n_regions=5, n_times=80, subject=1).signal)
    alone = RobustScale.fit([other])
    one[:2], other[0] = 0.0, 0.0
    scale = RobustScale.fit([one, other])
    assert scale.flat.tolist() == [True, False, False, False, False]
    assert (scale.median[0], scale.iqr[0]) == (0.0, 1.0)
    np.testing.assert_allclose((scale.median[1], scale.iqr[1]), (alone.median[1], alone.iqr[1]))
    assert not scale.apply(one)[:2].any()
    assert scale.apply(other)[1].any()


def test_what_does_not_fit_is_one_line():
    with pytest.raises(FIMPError, match="no recordings to fit"):
        RobustScale.fit([])
    with pytest.raises(FIMPError, match="4 regions, wanted 5"):
        RobustScale.fit([centred(SIGNAL)]).apply(centred(SIGNAL[:4]))
