import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fimp.analysis.permutation import false_discovery, paired, smallest_p, smallest_paired_p, two_groups
from fimp.errors import FIMPError


def alike(rng, units, tests):
    """Units that are independent, and quantities that are not, as pairs of regions are."""
    return rng.normal(size=(units, 5)) @ rng.normal(size=(5, tests)) + rng.normal(size=(units, tests))


@pytest.mark.parametrize("units", [8, 30])
@pytest.mark.parametrize("test", ["groups", "signs"])
def test_nothing_is_found_where_there_is_nothing(test, units):
    shares, discoveries = [], 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = alike(rng, units, 40)
        if test == "groups":
            p = two_groups(values, rng.permutation(units) < units // 2, 999, seed)
        else:
            p = paired(values, 999, seed)
        shares.append((p < 0.05).mean())
        discoveries += (false_discovery(p) < 0.05).any()
    assert 0.02 < np.mean(shares) < 0.075
    assert discoveries <= 6


def test_planted_differences_are_found():
    rng = np.random.default_rng(0)
    values, first = alike(rng, 24, 200), np.arange(24) < 12
    values[:12, :20] += 6.0
    found = false_discovery(two_groups(values, first)) < 0.05
    assert found[:20].all()
    assert found[20:].sum() <= 4
    differences = alike(rng, 24, 200)
    differences[:, :20] += 5.0
    found = false_discovery(paired(differences)) < 0.05
    assert found[:20].mean() > 0.9
    assert found[20:].sum() <= 4


def test_all_ways_are_taken_where_they_are_few():
    values = np.array([[3.0], [4.0], [5.0], [0.0], [1.0], [2.0]])
    first = np.arange(6) < 3
    assert two_groups(values, first, 99)[0] == pytest.approx(2 / 20) == smallest_p(3, 3, 99)
    differences = np.array([[1.0], [2.0], [1.5], [3.0], [2.0]])
    assert paired(differences, 99)[0] == pytest.approx(2 / 32) == smallest_paired_p(5, 99)


def test_missing_values_count_for_nothing():
    rng = np.random.default_rng(1)
    values, first = rng.normal(size=(12, 3)), np.arange(12) < 6
    values[0, 1] = values[7, 1] = np.nan
    values[first, 2] = np.nan
    p = two_groups(values, first, 999)
    assert np.isnan(p[2])
    assert p[0] == two_groups(values[:, :1], first, 999)[0]
    assert 0 < p[1] <= 1
    assert np.isnan(paired(values[:1].repeat(4, 0) * np.nan, 99)).all()


def test_equal_values_are_no_evidence():
    assert (two_groups(np.ones((8, 2)), np.arange(8) < 4, 999) == 1.0).all()
    assert (paired(np.zeros((8, 2)), 999) == 1.0).all()


def test_too_few_units_are_refused():
    with pytest.raises(FIMPError, match="1 and 3 exchangeable units, wanted at least 2 of each"):
        two_groups(np.zeros((4, 1)), np.arange(4) < 1)
    with pytest.raises(FIMPError, match="1 exchangeable units have both groups"):
        paired(np.zeros((1, 1)))


@given(st.lists(st.floats(0.0001, 1.0), min_size=1, max_size=30))
def test_false_discovery_rates_are_those_of_scipy(p):
    p = np.array([*p, np.nan])
    q = false_discovery(p)
    assert np.isnan(q[-1])
    np.testing.assert_allclose(q[:-1], stats.false_discovery_control(p[:-1]), rtol=1e-9)
