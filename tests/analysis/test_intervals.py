import numpy as np

from fimp.analysis.intervals import interval_figure


def results(models, baseline=True):
    rows, runs = [], []
    for place, model in enumerate(models):
        scores = [0.1 * place, 0.1 * place + 0.02]
        runs += [{"model": model, "seed": k, "metrics": {"r2": score}} for k, score in enumerate(scores)]
        rows.append(
            {
                "model": model,
                "metrics": {"r2": {"mean": float(np.mean(scores)), "std": 0.01}},
                "interval": [0.1 * place - 0.05, 0.1 * place + 0.05],
            }
        )
    entry = {"model": models[-1], "baseline": models[0], "metric": "r2", "mean_difference": 0.2, "interval": [0.1, 0.3]}
    return {"monitor": "r2", "summary": rows, "runs": runs, "comparisons": [entry] if baseline else []}


def test_scores_and_differences_stand_side_by_side():
    left, right = interval_figure(results(["gcn", "mlp", "fimp-base"])).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["gcn", "mlp", "fimp-base"]
    bounds = [line.get_xdata() for line in left.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"]
    np.testing.assert_allclose(bounds[0], [-0.05, 0.05])
    assert "gcn" in right.get_title() or "gcn" in right.get_title("left")
    seeds = [line.get_xdata() for line in right.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(seeds, [[0.2, 0.2]])


def test_without_a_baseline_there_are_scores_only():
    assert len(interval_figure(results(["fimp-base"], baseline=False)).axes) == 1


def test_a_score_that_does_not_exist_leaves_its_row_empty():
    known = results(["gcn", "fimp-base"], baseline=False)
    known["summary"][0]["metrics"]["r2"]["mean"] = None
    known["runs"] = [{**run, "metrics": {"r2": None}} if run["model"] == "gcn" else run for run in known["runs"]]
    axis = interval_figure(known).axes[0]
    assert {float(y) for line in axis.lines for y in line.get_ydata()} == {1.0}


def test_equal_scores_are_drawn_on_one_spot():
    known = results(["gcn", "fimp-base"])
    for run in known["runs"]:
        run["metrics"]["r2"] = 0.5 + 1e-17 * run["seed"]
    known["comparisons"][0].update(mean_difference=1e-17, interval=[0.0, 1e-17])
    low, high = interval_figure(known).axes[1].get_xlim()
    assert high - low > 1e-4
