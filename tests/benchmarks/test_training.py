import json

import pytest


def test_it_prints_its_table_and_writes_it(script, capsys, tmp_path):
    models = "mean,mlp,fimp-base:no-edges"
    training = script(
        "training", "--cells", 80, "--steps", 3, "--batch-size", 32, "--models", models, "--repeats", 2,
        "--json", tmp_path / "out.json",
    )  # fmt: skip
    training.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert [*found["models"]] == models.split(",")
    assert found["cells"] == 80
    mean, mlp, fimp = found["models"].values()
    assert mean["steps"] == 0
    # 64 cells are two batches.
    assert mlp["steps"] == fimp["steps"] == 2 * found["epochs"] == 4
    assert len(mlp["curve"]) == len(fimp["curve"]) == found["epochs"]
    assert found["target"] == found["models"][found["target_model"]]["best_r2"] == max(mean["best_r2"], mlp["best_r2"])
    assert 0 < mlp["curve"][0][0] <= mlp["curve"][1][0] == mlp["seconds"]
    text = capsys.readouterr().out
    assert f"target: validation R2 {found['target']:.4f} of {found['target_model']}" in text
    assert "| mlp |" in text


def test_the_time_that_counts_is_that_of_the_first_validation_as_good(script):
    training = script("training")
    runs = {
        "gcn": {"steps": 2, "curve": [[1.0, 0.1], [2.0, 0.5], [3.0, 0.4]]},
        "mlp": {"steps": 2, "curve": [[0.5, 0.2]]},
        "fimp-base": {"steps": 2, "curve": [[3.0, 0.4], [6.0, 0.7], [9.0, 0.8]]},
    }
    found = training.compare(runs)
    assert (found["target_model"], found["target"]) == ("gcn", 0.5)
    of = found["models"]
    assert [of[name]["seconds_to_target"] for name in runs] == [2.0, None, 6.0]
    assert [of[name]["ratio"] for name in runs] == [1.0, None, 3.0]
    assert training.faster(runs["mlp"], {"steps": 2, "curve": [[0.4, 0.2]]})["curve"] == [[0.4, 0.2]]


def test_a_comparison_without_a_baseline_is_refused(script, capsys):
    with pytest.raises(SystemExit):
        script("training", "--models", "fimp-base").main()
    assert "no baseline" in capsys.readouterr().err
