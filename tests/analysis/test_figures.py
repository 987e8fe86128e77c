import pytest

from fimp.analysis import comparison_figure
from fimp.analysis.figures import best_rows, tuning_figure
from fimp.analysis.tables import cell, markdown, verdicts


@pytest.fixture
def results():
    def row(model, r2, mse):
        return {
            "model": model,
            "n_seeds": 2,
            "train_seconds": 1.0,
            "metrics": {"r2": {"mean": r2, "std": 0.01}, "mse": {"mean": mse, "std": 0.02}},
        }

    return {
        "task": "expression",
        "data": {"name": "x/y.h5ad", "n_nodes": 10, "n_edges": 20, "n_features": 3, "notes": ["a note"]}
        | {"n_train": 7, "n_val": 1, "n_test": 2},
        "metrics": {"r2": "max", "mse": "min"},
        "monitor": "r2",
        "comparisons": [
            {
                "model": "a",
                "baseline": "b",
                "metric": metric,
                "mean_difference": -0.3,
                "p_value": 0.0004,
                "n_seeds": 2,
                "interval": [-0.35, -0.25] if metric == "r2" else None,
                "verdict": "worse",
            }
            for metric in ("r2", "mse")
        ],
        "summary": [row("a", 0.1, 0.5), row("b", 0.4, 0.9), row("broken", float("nan"), None)],
        "runs": [
            {"model": m, "seed": s, "metrics": {"r2": r2, "mse": mse}}
            for m, r2, mse in (("a", 0.1, 0.5), ("b", 0.4, 0.9), ("broken", None, None))
            for s in (0, 1)
        ],
        "machine": {"fimp": "0", "torch": "2", "cores": 2, "jobs": 2, "device": "cpu"},
        "seconds": 60.0,
        "settings": {"changed": ["fraction=0.5", "a: lr=0.1"]},
    }


def test_best_depends_on_the_metrics_direction(results):
    assert best_rows(results, "r2") == {"b"}
    assert best_rows(results, "mse") == {"a"}
    results["summary"][0]["metrics"]["r2"]["mean"] = 0.4
    assert best_rows(results, "r2") == {"a", "b"}
    results["summary"] = results["summary"][2:]
    assert best_rows(results, "r2") == set()


def test_the_table_has_a_row_per_model_and_the_best_in_bold(results):
    text = markdown(results)
    assert "| a | 0.1000 ± 0.0100 | **0.5000 ± 0.0200** | 2 | 1.0 |" in text
    assert "| broken | – | – | 2 | 1.0 |" in text
    assert "- a note" in text
    assert "the first seed trains on 7, validates on 1 and tests 2." in text
    assert "- settings that are not the defaults: fraction=0.5; a: lr=0.1" in text
    assert "| a | -0.3000 | -0.3500 to -0.2500 | < 0.001 | worse |" in text
    assert verdicts(results) == ["a against b, r2: -0.3000 [-0.3500 to -0.2500], p < 0.001: worse"]
    for entry in results["comparisons"]:
        entry["p_value"] = None
    assert verdicts(results) == ["a against b, r2: -0.3000 [-0.3500 to -0.2500], no p-value: worse"]
    for entry in results["comparisons"]:
        entry["n_seeds"] = 1
    assert verdicts(results) == ["a against b, r2: -0.3000 [-0.3500 to -0.2500], one seed: worse"]
    results["summary"][0]["n_seeds"] = 1
    assert cell(results["summary"][0], "r2") == "0.1000"


def test_the_figure_is_drawn_even_with_missing_and_negative_scores(results, tmp_path):
    results["summary"][0]["metrics"]["r2"]["mean"] = -0.3
    comparison_figure(results, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 5000


def test_the_figure_of_a_search_is_drawn_with_pruned_trials(tmp_path):
    grid = {"lr": (0.001, 0.01), "dropout": (0.0, 0.5)}
    best = {"params": {"lr": 0.01, "dropout": 0.0}, "score": 0.5, "state": "complete"}
    pruned = {"params": {"lr": 0.001, "dropout": 0.5}, "score": None, "state": "pruned"}
    report = {"model": "a", "score": 0.5, "hyperparameters": best["params"], "trials": [best, pruned]}
    tuning_figure([report], grid, tmp_path / "t.png")
    assert (tmp_path / "t.png").stat().st_size > 5000
