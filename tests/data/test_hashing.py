import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fimp.data.hashing import hash_uniform

integers = st.integers(-(2**62), 2**62)


def test_one_key_is_the_published_splitmix64_sequence():
    # First output of SplitMix64 with seed 0, from the reference implementation.
    assert hash_uniform(0) == (0xE220A8397B1DCDAF >> 11) * 2.0**-53


@given(st.lists(integers, min_size=1, max_size=5))
def test_values_are_in_the_unit_interval_and_repeat(keys):
    value = hash_uniform(*keys)
    assert 0.0 <= value < 1.0
    assert hash_uniform(*keys) == value


@given(integers, integers, st.lists(integers, min_size=1, max_size=20))
def test_broadcasting_equals_one_key_at_a_time(first, second, many):
    together = hash_uniform(first, np.array(many), second)
    assert together.tolist() == [float(hash_uniform(first, key, second)) for key in many]


def test_order_and_every_single_key_matter():
    assert hash_uniform(1, 2) != hash_uniform(2, 1)
    values = hash_uniform(np.arange(20)[:, None, None], np.arange(-1, 19)[None, :, None], np.arange(20))
    assert len(np.unique(values)) == 20**3


def test_neighbouring_keys_give_uniform_uncorrelated_numbers():
    values = hash_uniform(0, np.arange(300)[:, None], np.arange(300))
    # 90,000 values: the shares of 20 bins have a standard deviation of 0.0007.
    share = np.histogram(values, bins=20, range=(0, 1))[0] / values.size
    assert np.abs(share - 0.05).max() < 0.005
    for shifted in (values[1:], values[:, 1:]):
        base = values[: shifted.shape[0], : shifted.shape[1]]
        assert abs(np.corrcoef(base.ravel(), shifted.ravel())[0, 1]) < 0.02


def test_the_evaluation_epoch_minus_one_raises_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hash_uniform(0, -1, np.array([-1, 3])).shape == (2,)
