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
    [([0.1], None), ([0.1, float("nan")], None), ([0.0, 0.0], 1.0), ([0.1, 0.1, 0.1], None)],
)
def test_cases_without_a_spread(differences, p_value):
    assert corrected_t_test(differences, 0.3) == p_value


def test_differences_that_tie_but_for_rounding_are_no_evidence():
    tied = [0.55 - 0.45, 0.65 - 0.55, 0.75 - 0.65]
    assert len(set(tied)) > 1
    assert corrected_t_test(tied, 0.3) is None


def test_bootstrap_is_centred_on_the_score_and_covers_it(task):
    generator = np.random.default_rng(0)
    nodes = np.repeat(np.arange(50), 6)
    truth = generator.normal(size=300)
    predicted = truth + generator.normal(size=300) * 0.5
    outcome = tuple(map(torch.from_numpy, (nodes, predicted, truth, nodes % 7)))
    kept = task.node_statistics(outcome)
    score = task.score(outcome)["r2"]
    assert task.resampled(kept, np.ones((1, 50)))[0] == pytest.approx(score)
    units = task.units(outcome)
    assert units.tolist() == list(range(50))
    draws = bootstrap(task, {"a": kept, "b": kept}, units)
    assert np.array_equal(draws["a"], draws["b"])  # paired
    low, high = interval(draws["a"])
    assert low < score < high
    assert draws["a"].mean() == pytest.approx(score, abs=0.02)


def cells(task, nodes, seed):
    """Statistics of predictions for some cells, and which cells these are."""
    generator = np.random.default_rng(seed)
    node = np.repeat(nodes, 6)
    truth = generator.normal(size=len(node))
    outcome = tuple(map(torch.from_numpy, (node, truth + generator.normal(size=len(node)) * 0.5, truth, node % 7)))
    return {"a": task.node_statistics(outcome)}, task.units(outcome)


def width(draws):
    low, high = interval(np.mean(draws, axis=0))
    return high - low


def test_seeds_that_test_the_same_nodes_are_no_more_evidence(task):
    kept, units = cells(task, np.arange(60), seed=0)
    one = bootstrap(task, kept, units)["a"]
    assert width([one] * 5) == width([one])
    again = bootstrap(task, kept, units)["a"]
    assert np.array_equal(one, again)


def test_a_node_counts_as_often_in_every_seed_that_tests_it(task):
    everything = np.arange(120)
    of = [cells(task, np.arange(start, start + 60), seed=start) for start in (0, 60)]
    disjoint = [bootstrap(task, kept, units, everything)["a"] for kept, units in of]
    # Nodes of their own are new evidence: draws of the two seeds are all but independent.
    assert abs(np.corrcoef(disjoint)[0, 1]) < 0.2
    kept, units = of[0]
    same = bootstrap(task, kept, units, everything)["a"]
    assert np.array_equal(same, disjoint[0])


def test_nearly_all_intervals_cover_the_truth_however_many_seeds_share_their_nodes(task):
    # Two models that are equally good; seeds differ in nothing, so that only test nodes vary.
    covered = 0
    for repeat in range(40):
        (ours, units), (theirs, _) = (cells(task, np.arange(80), seed=[repeat, model]) for model in (0, 1))
        draws = bootstrap(task, {"ours": ours["a"], "theirs": theirs["a"]}, units, draws=300)
        low, high = interval(np.mean([draws["ours"] - draws["theirs"]] * 5, axis=0))
        covered += low <= 0.0 <= high
    assert covered >= 34


def test_few_nodes_give_no_interval(task):
    kept, units = cells(task, np.arange(9), seed=0)
    assert interval(bootstrap(task, kept, units)["a"]) is None


def run(model, seed, r2, mse=1.0):
    return {"model": model, "seed": seed, "metrics": {"r2": r2, "mse": mse}}


METRICS = {"r2": "max", "mse": "min"}


def differences(a, b, mse=(1.0, 1.0)):
    runs = [
        run(model, s, v, mean * (1.0 + 0.01 * s))
        for model, values, mean in (("gcn", a, mse[0]), ("fimp", b, mse[1]))
        for s, v in enumerate(values)
    ]
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
    scores = (("mean", 0.2), ("gcn", 0.4), ("gat", float("nan")), ("fimp-base", 0.9))
    runs = [run(name, 0, value) for name, value in scores]
    assert best_baseline(runs, ["mean", "gcn", "gat"], "r2", "max") == "gcn"
    assert best_baseline(runs, ["mean", "gcn", "gat"], "r2", "min") == "mean"
    assert best_baseline(runs, [], "r2", "max") is None


def test_baselines_are_compared_on_seeds_that_all_of_them_have():
    runs = [run("gcn", 0, 0.6), run("gcn", 1, 0.8), run("sage", 0, 0.65)]
    assert best_baseline(runs, ["gcn", "sage"], "r2", "max") == "sage"
