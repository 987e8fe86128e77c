import json
import shutil

import pytest

import fimp
from fimp.analysis.report.found import find_run, shown_model
from fimp.errors import FIMPError


def test_a_comparison_shows_the_best_fimp_of_the_first_seed(comparison):
    run = find_run(comparison)
    assert run.is_comparison
    assert (run.config.model, run.config.seed) == ("fimp-base", 0)
    assert run.shown == comparison / "runs" / "fimp-base" / "seed0"
    assert [folder.parent.name for folder in run.of_model("gcn")] == ["gcn", "gcn"]


def test_a_run_finds_the_comparison_above_it(comparison):
    run = find_run(comparison / "runs" / "gcn" / "seed1")
    assert not run.is_comparison
    assert run.comparison == comparison
    assert (run.config.model, run.config.seed) == ("gcn", 1)
    assert run.results["summary"]


def test_a_saved_model_has_no_comparison(tmp_path):
    fimp.ExpressionModel(fimp.data.simulate.tissue(n_cells=60, n_genes=12), model="mean").save(tmp_path / "m")
    run = find_run(tmp_path / "m")
    assert run.comparison is None
    assert run.results is None
    assert run.of_model("mean") == [run.shown]


@pytest.mark.parametrize(
    ("means", "chosen"),
    [
        ({"gcn": 0.9, "fimp-base": 0.5, "fimp-base:no-edges": 0.8}, "fimp-base"),
        ({"gcn": 0.9, "mlp": 0.95}, "mlp"),
        ({"gcn": None, "mlp": 0.1}, "mlp"),
        ({"gcn": None}, "gcn"),
        ({"fimp-base": 0.4, "fimp:a": 0.6}, "fimp:a"),
    ],
)
def test_the_model_that_is_shown(means, chosen):
    rows = [{"model": name, "metrics": {"r2": {"mean": mean}}} for name, mean in means.items()]
    assert shown_model({"monitor": "r2", "metrics": {"r2": "max"}, "summary": rows}) == chosen


def test_of_errors_the_smallest_is_best():
    rows = [{"model": name, "metrics": {"mse": {"mean": mean}}} for name, mean in (("a", 0.3), ("b", 0.2))]
    assert shown_model({"monitor": "mse", "metrics": {"mse": "min"}, "summary": rows}) == "b"


def test_what_is_no_run_is_refused(comparison, tmp_path):
    with pytest.raises(FIMPError, match=r"no run folder \(neither results.json nor config.yaml\); pass"):
        find_run(tmp_path)
    for content in ("{", "[]", json.dumps({"trials": []})):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(FIMPError, match=r"results\.json: "):
            find_run(tmp_path)
    shutil.copy(comparison / "results.json", tmp_path)
    with pytest.raises(FIMPError, match="no run of fimp-base"):
        find_run(tmp_path)
