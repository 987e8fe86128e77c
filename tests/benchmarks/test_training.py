import json

import pytest
import torch


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
    assert mean["flops_per_second"] is None
    assert mlp["flops_per_second"] > 0
    assert 0 < fimp["share_of_matmul"] < 1
    assert mean["peak_mb"] is None
    assert fimp["peak_mb"] > 0 < mlp["peak_mb"]
    least = found["models"][found["target_model"]]["peak_mb"]
    assert fimp["peak_ratio"] == (None if least is None else pytest.approx(fimp["peak_mb"] / least))
    text = capsys.readouterr().out
    assert f"target: validation R2 {found['target']:.4f} of {found['target_model']}" in text
    assert "| mlp |" in text


def test_the_time_that_counts_is_that_of_the_first_validation_as_good(script):
    training = script("training")
    runs = {
        "gcn": {"curve": [[1.0, 0.1], [2.0, 0.5], [3.0, 0.4]]},
        "mlp": {"curve": [[0.5, 0.2]]},
        "fimp-base": {"curve": [[3.0, 0.4], [6.0, 0.7], [9.0, 0.8]]},
    }
    for run in runs.values():
        run |= {"steps": 2, "matmul_flops_per_second": 1.0}
    found = training.compare(runs)
    assert (found["target_model"], found["target"]) == ("gcn", 0.5)
    of = found["models"]
    assert [of[name]["seconds_to_target"] for name in runs] == [2.0, None, 6.0]
    assert [of[name]["ratio"] for name in runs] == [1.0, None, 3.0]
    assert training.faster(runs["mlp"], {**runs["mlp"], "curve": [[0.4, 0.2]]})["curve"] == [[0.4, 0.2]]


def test_a_comparison_without_a_baseline_is_refused(script, capsys):
    with pytest.raises(SystemExit):
        script("training", "--models", "fimp-base").main()
    assert "no baseline" in capsys.readouterr().err


def test_operations_are_those_of_products_and_of_attention(script):
    count = script("common").Operations
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)
    with count() as counted:
        (a @ b).sum().backward()
    assert counted.count == 2 * (2 * 3 * 4 * 5)
    with count() as counted:
        a.detach().to_sparse_csr() @ b
        a.exp()
    assert counted.count == 0
    query, key = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8)
    with count() as counted:
        torch.nn.functional.scaled_dot_product_attention(query, key, key)
    assert counted.count == 4 * 2 * 3 * 4 * 5 * 8


def test_a_rate_is_that_of_the_steps_between_validations(script):
    run = {"curve": [[1.0, 0.1], [3.0, 0.2], [5.0, 0.3]], "matmul_flops_per_second": 1000.0}
    # Six epochs, a validation after every second of them.
    found = script("training").rate(run, 100, 10, 6)
    assert found == {"flops_per_second": 105.0, "share_of_matmul": pytest.approx(0.105)}
    assert script("training").rate({**run, "curve": run["curve"][:1]}, 100, 10, 2)["share_of_matmul"] is None
