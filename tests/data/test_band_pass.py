import numpy as np
import pytest

from fimp.data.band_pass import BandPass
from fimp.errors import FIMPError

TR = 2.0
TIME = TR * np.arange(300)


def wave(hertz):
    return np.sin(2 * np.pi * hertz * TIME)[None].astype(np.float32)


def power(signal):
    return float(np.square(signal[:, 50:-50]).mean())


@pytest.mark.parametrize(("hertz", "kept"), [(0.002, 0.0), (0.03, 1.0), (0.05, 1.0), (0.2, 0.0)])
def test_a_band_passes_and_nothing_is_shifted(hertz, kept):
    signal = wave(hertz)
    out = BandPass(0.01, 0.1).apply(signal, TR)
    assert out.dtype == np.float32
    assert power(out) / power(signal) == pytest.approx(kept, abs=0.06)
    if kept:
        np.testing.assert_allclose(out[:, 50:-50], signal[:, 50:-50], atol=0.06)


def test_half_of_the_amplitude_passes_at_the_edges():
    for hertz in (0.02, 0.1):
        out = BandPass(0.02, 0.1).apply(wave(hertz), TR)
        assert np.sqrt(power(out) / power(wave(hertz))) == pytest.approx(0.5, abs=0.03)


def test_without_a_lower_edge_what_is_slow_stays():
    slow, fast = wave(0.005), wave(0.2)
    np.testing.assert_allclose(
        BandPass(0.0, 0.1).apply(slow + fast + 3.0, TR)[:, 50:-50], slow[:, 50:-50] + 3, atol=0.02
    )


def test_zeros_stay_and_short_stretches_are_filtered():
    signal = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    signal[1] = 0.0
    out = BandPass(0.01, 0.1).apply(signal, TR)
    assert out.shape == signal.shape
    assert np.isfinite(out).all()
    assert (out[1] == 0).all()


@pytest.mark.parametrize("edges", [(0.1, 0.01), (0.1, 0.1), (-0.1, 0.1), (0.0, float("inf")), (float("nan"), 0.1)])
def test_what_is_no_band(edges):
    with pytest.raises(FIMPError, match="is no band, wanted two frequencies") as error:
        BandPass(*edges)
    assert "\n" not in str(error.value)


def test_recordings_that_cannot_be_filtered():
    band = BandPass(0.01, 0.1)
    assert band.check("a.npz", TR) == TR
    with pytest.raises(FIMPError, match=r"a\.npy: does not say how many seconds a volume takes.* --tr"):
        band.check("a.npy", None)
    for tr in (5.0, 8.0):
        with pytest.raises(
            FIMPError, match=rf"a\.npz: .* ends at or above {0.5 / tr:g} Hz, .* with {tr:g} s per volume"
        ):
            band.check("a.npz", tr)
