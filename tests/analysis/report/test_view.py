import numpy as np

from fimp.analysis.report.found import find_run
from fimp.analysis.report.view import View, some


def test_few_nodes_are_all_taken_and_many_are_drawn_once_and_for_all():
    nodes = np.arange(0, 1000, 2)
    assert np.array_equal(some(nodes[::-1], 500), nodes)
    drawn = some(nodes, 100)
    assert len(np.unique(drawn)) == 100
    assert set(drawn) <= set(nodes)
    assert np.array_equal(drawn, some(nodes, 100))
    assert drawn.max() > 500


def test_groups_of_nodes_stay_whole():
    nodes = np.arange(120)
    assert np.array_equal(some(nodes, 50, together=12), np.arange(48))
    assert np.array_equal(some(nodes, 5, together=12), np.arange(12))


def test_a_view_predicts_the_test_nodes_as_they_were_scored(comparison):
    view = View.of(find_run(comparison))
    assert np.array_equal(view.nodes, np.sort(view.model.task.split["test"]))
    assert set(view.outcome[0].tolist()) == set(view.nodes.tolist())
    assert view.which == "all 40 test cells"
    stored = [run for run in find_run(comparison).results["runs"] if run["model"] == "fimp-base" and run["seed"] == 0]
    assert np.isclose(view.model.task.score(view.outcome)["r2"], stored[0]["metrics"]["r2"], atol=1e-5)
