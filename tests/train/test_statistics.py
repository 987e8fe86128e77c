import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fimp.data import load_cells, simulate
from fimp.tasks import ExpressionTask
from fimp.train.statistics import best_baseline, bootstrap, compare_to, corrected_t_test, interval


@pytest.fixture(scope="module")
def task():
    return ExpressionTask(load_cells(simulate.tissue(n_cells=100, n_genes=18, n_pairs=4)))


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8).filter(lambda d: np.std(d) > 1e-3))
def test_without_test_nodes_the_test_is_the_paired_t_test(differences):
    assert corrected_t_test(differences, 0.0) == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue)


@given(st.lists(st.floats(0.1, 1), min_size=3, max_size=8).filter(lambda d: np.std(d) > 1e-3))
def test_overlap_of_splits_makes_the_test_more_careful(differences):
    assert corrected_t_test(differences, 2 / 7) > corrected_t_test(differences, 0.0)


def test_the_published_formula():
    # Nadeau and Bengio: t = mean / sqrt((1 / n + n_test / n_train) s^2), n - 1 degrees of freedom.
    d = np.array([0.02, 0.03, 0.01, 0.04, 0.02])
    t = d.mean() / np.sqrt((1 / 5 + 0.25) * d.var(ddof=1))
    assert corrected_t_test(d, 0.25) == pytest.approx(2 * (1 - stats.t.cdf(t, 4)))


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [([0.1], None), ([0.1, float("nan")], None), ([0.0, 0.0], 1.0), ([0.1, 0.1, 0.1], 0.0)],
)
def test_cases_without_a_spread(differences, p_value):
    assert corrected_t_test(differences, 0.3) == p_value


def test_bootstrap_is_centred_on_the_score_and_covers_it(task):
    generator = np.random.default_rng(0)
    nodes = np.repeat(np.arange(50), 6)
    truth = generator.normal(size=300)
    predicted = truth + generator.normal(size=300) * 0.5
    outcome = tuple(map(torch.from_numpy, (nodes, predicted, truth, nodes % 7)))
    kept = task.node_statistics(outcome)
    score = task.score(outcome)["r2"]
    assert task.resampled(kept, np.ones((1, 50)))[0] == pytest.approx(score)
    draws = bootstrap(task, {"a": kept, "b": kept}, seed=0)
    assert np.array_equal(draws["a"], draws["b"])  # paired
    low, high = interval(draws["a"])
    assert low < score < high
    assert draws["a"].mean() == pytest.approx(score, abs=0.02)


def run(model, seed, r2, mse=1.0):
    return {"model": model, "seed": seed, "metrics": {"r2": r2, "mse": mse}}


METRICS = {"r2": "max", "mse": "min"}


def differences(a, b, mse=(1.0, 1.0)):
    runs = [run("gcn", s, v, mse[0]) for s, v in enumerate(a)] + [run("fimp", s, v, mse[1]) for s, v in enumerate(b)]
    resamples = {("gcn", s): v + np.linspace(-0.001, 0.001, 100) for s, v in enumerate(a)} | {
        ("fimp", s): v + np.linspace(-0.001, 0.002, 100) for s, v in enumerate(b)
    }
    return {entry["metric"]: entry for entry in compare_to("gcn", runs, METRICS, "r2", resamples, 2 / 7)}


def test_a_clear_difference_is_called_so():
    out = differences([0.50, 0.52, 0.51], [0.60, 0.625, 0.61], mse=(2.0, 1.0))
    assert out["r2"]["mean_difference"] == pytest.approx(0.10166, abs=1e-4)
    assert out["r2"]["verdict"] == "better"
    assert out["r2"]["n_seeds"] == 3
    assert out["r2"]["p_value"] < 0.01
    assert out["r2"]["interval"][0] > 0.09
    assert out["mse"]["verdict"] == "better"  # lower is better there
    assert out["mse"]["interval"] is None


def test_a_difference_that_varies_is_noise_although_test_nodes_agree():
    out = differences([0.50, 0.50, 0.50], [0.60, 0.42, 0.61])
    assert out["r2"]["interval"][0] > 0
    assert out["r2"]["verdict"] == "within noise"


def test_one_seed_is_judged_by_test_nodes_alone():
    out = differences([0.5], [0.6])
    assert out["r2"]["p_value"] is None
    assert out["r2"]["verdict"] == "better"
    assert out["mse"]["verdict"] == "within noise"  # neither seeds nor resamples say anything


def test_the_best_baseline_is_the_best_of_those_named():
    summary = [
        {"model": name, "metrics": {"r2": {"mean": mean}}}
        for name, mean in (("mean", 0.2), ("gcn", 0.4), ("gat", float("nan")), ("fimp-base", 0.9))
    ]
    assert best_baseline(summary, ["mean", "gcn", "gat"], "r2", "max") == "gcn"
    assert best_baseline(summary, ["mean", "gcn", "gat"], "r2", "min") == "mean"
    assert best_baseline(summary, [], "r2", "max") is None
