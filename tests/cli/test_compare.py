import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

import fimp
from fimp.train import single

COMMON = ["compare", "expression", "--batch-size", "64", "--device", "cpu", "--members", "1", "--jobs", "1"]


@pytest.fixture(scope="module")
def tissue_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tissue.h5ad"
    fimp.data.simulate.tissue(n_cells=150, n_genes=18, n_pairs=4).write_h5ad(path)
    return path


def metrics(out):
    results = json.loads((out / "results.json").read_text())
    return {(run["model"], run["seed"]): run["metrics"] for run in results["runs"]}


def test_results_have_the_documented_form(run_cli, tissue_file, tmp_path):
    out = tmp_path / "out"
    names = ["mean", "fimp-base", "fimp-base:no-edges"]
    code, text, err = run_cli(
        *COMMON, "--data", tissue_file, "--models", ",".join(names), "--seeds", 2, "--epochs", 2, "--out", out
    )
    assert (code, err) == (0, "")
    results = json.loads((out / "results.json").read_text())
    assert results["task"] == "expression"
    assert results["data"].items() >= {"n_nodes": 150, "n_edges": 1200, "n_features": 18}.items()
    assert results["data"].items() >= {"n_train": 105, "n_val": 15, "n_test": 30}.items()
    assert results["settings"]["changed"] == ["members=1", "epochs=2", "batch_size=64", "device=cpu"]
    assert [row["model"] for row in results["summary"]] == names
    assert {(run["model"], run["seed"]) for run in results["runs"]} == {(n, s) for n in names for s in (0, 1)}
    for run in results["runs"]:
        assert set(run["metrics"]) == {"mse", "r2", "r2_gene"}
        assert run["epochs"] == (0 if run["model"] == "mean" else 2)
        assert run["train_seconds"] >= 0
        assert run["peak_memory_mb"] > 10
    for row in results["summary"]:
        own = [run["metrics"]["r2"] for run in results["runs"] if run["model"] == row["model"]]
        assert row["metrics"]["r2"]["mean"] == pytest.approx(sum(own) / 2)
        assert row["metrics"]["r2"]["std"] == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    assert "| fimp-base:no-edges |" in (out / "results.md").read_text()
    assert all(name in text for name in names)
    folder = out / "runs" / "fimp-base" / "seed1"
    kept = {"config.yaml", "metrics.csv", "checkpoints", "results.json", "statistics.safetensors"}
    assert {p.name for p in folder.iterdir()} == kept
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["best.safetensors"]
    assert fimp.load(folder).evaluate() == metrics(out)["fimp-base", 1]


def test_differences_to_the_best_baseline_are_reported(run_cli, tissue_file, tmp_path):
    out = tmp_path / "out"
    arguments = [*COMMON, "--data", tissue_file, "--models", "mean,mlp,gcn,fimp-base", "--seeds", 3, "--epochs", 3]
    code, text, _ = run_cli(*arguments, "--out", out)
    assert code == 0
    results = json.loads((out / "results.json").read_text())
    r2 = {row["model"]: row["metrics"]["r2"]["mean"] for row in results["summary"]}
    best = max(("mean", "mlp", "gcn"), key=r2.__getitem__)
    entries = {(entry["model"], entry["metric"]): entry for entry in results["comparisons"]}
    assert {model for model, _ in entries} == set(r2) - {best}
    for (model, metric), entry in entries.items():
        assert entry["baseline"] == best
        assert entry["n_seeds"] == 3
        assert (entry["interval"] is None) == (metric != "r2")
        assert entry["verdict"] in ("better", "worse", "within noise")
        if metric == "r2":
            assert entry["mean_difference"] == pytest.approx(r2[model] - r2[best])
            assert f"{model} against {best}, r2: {entry['mean_difference']:+.4f}" in text
            assert f"| {model} | {entry['mean_difference']:+.4f} |" in (out / "results.md").read_text()
    for row in results["summary"]:
        assert row["interval"][0] <= row["metrics"]["r2"]["mean"] <= row["interval"][1]


def test_runs_side_by_side_give_the_digits_of_runs_one_by_one(run_cli, tissue_file, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = [*COMMON[:-2], "--data", tissue_file, "--models", "mean,mlp,gcn", "--seeds", 2, "--epochs", 3]
    for jobs in ("1", "2"):
        code, text, err = run_cli(*arguments, "--jobs", jobs, "--out", tmp_path / jobs)
        assert (code, err) == (0, "")
        assert text.count("mlp, seed") == 2
    assert metrics(tmp_path / "1") == metrics(tmp_path / "2")
    stored = yaml.safe_load((tmp_path / "2" / "runs" / "mlp" / "seed0" / "config.yaml").read_text())
    assert stored["threads"] >= 1


def start(arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", "from fimp.cli.main import main; main()", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background of a shell inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(path, seconds=90):
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert path.exists()


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_comparison_resumes_to_the_same_numbers(run_cli, tissue_file, tmp_path, stop, code):
    arguments = [*COMMON, "--data", tissue_file, "--models", "mlp,fimp-base", "--seeds", 1, "--epochs", 60]
    assert run_cli(*arguments, "--out", tmp_path / "whole")[0] == 0
    cut = tmp_path / "cut"
    process = start([*arguments, "--out", cut])
    wait_for(cut / "runs" / "fimp-base" / "seed0" / "checkpoints" / "last.safetensors")
    time.sleep(0.3)
    process.send_signal(stop)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert not (cut / "results.json").exists()
    if stop == signal.SIGINT:
        assert "Traceback" not in err
        assert "--resume" in out
    checkpoints = cut / "runs" / "fimp-base" / "seed0" / "checkpoints"
    assert (checkpoints / "last.safetensors").exists()
    if stop == signal.SIGKILL:
        # It may have been writing.
        (checkpoints / ".last.safetensors.1").write_bytes(b"half")
    code, text, err = run_cli(*arguments, "--out", cut, "--resume")
    assert (code, err) == (0, "")
    assert "finished earlier" in text
    assert metrics(cut) == metrics(tmp_path / "whole")
    assert [path.name for path in checkpoints.iterdir()] == ["best.safetensors"]


def test_resume_refuses_runs_of_other_settings(run_cli, tissue_file, tmp_path):
    out = tmp_path / "out"
    arguments = [*COMMON, "--data", tissue_file, "--models", "mlp", "--seeds", 1, "--out", out]
    assert run_cli(*arguments, "--epochs", 1)[0] == 0
    before = (out / "results.json").read_bytes()
    code, _, err = run_cli(*arguments, "--epochs", 2, "--resume")
    assert code == 2
    assert "train.epochs=1, this one has 2" in err
    assert (out / "results.json").read_bytes() == before


def test_without_resume_an_earlier_comparison_is_replaced_and_nothing_else(run_cli, tissue_file, tmp_path):
    out = tmp_path / "out"
    (out / "runs" / "mine").mkdir(parents=True)
    (out / "runs" / "mine" / "notes.txt").write_text("keep me")
    arguments = [*COMMON, "--data", tissue_file, "--seeds", 1, "--epochs", 1, "--out", out]
    assert run_cli(*arguments, "--models", "mlp,mean")[0] == 0
    assert run_cli(*arguments, "--models", "gcn")[0] == 0
    assert sorted(p.name for p in (out / "runs").iterdir()) == ["gcn", "mine"]
    assert (out / "runs" / "mine" / "notes.txt").read_text() == "keep me"


def test_files_that_no_comparison_wrote_are_not_replaced(run_cli, tissue_file, tmp_path):
    arguments = [*COMMON, "--data", tissue_file, "--models", "mean", "--seeds", 1, "--epochs", 1, "--out", tmp_path]
    for name in ("report.html", "results.json", "results.md", "reconstructions.png"):
        mine = tmp_path / name
        mine.write_text('{"mine": 1}')
        for more in ([], ["--resume"]):
            code, _, err = run_cli(*arguments, *more)
            assert code == 2
            assert f"holds {name}, which no comparison wrote" in err
        assert mine.read_text() == '{"mine": 1}'
        assert list(tmp_path.iterdir()) == [mine]
        mine.unlink()
    (tmp_path / "runs").write_text("mine")
    code, _, err = run_cli(*arguments)
    assert code == 2
    assert "runs is a file" in err


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("x" * 300, "cannot be written"), ("file/out", "is a file"), ("link", "is a broken link"), ("/proc/x", "cannot")],
)
def test_a_folder_that_cannot_be_is_refused_before_data_is_read(run_cli, tmp_path, name, wanted):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    for command in (COMMON, ["tune", "expression"]):
        code, _, err = run_cli(*command, "--data", "missing.h5ad", "--models", "mean", "--out", tmp_path / name)
        assert code == 2
        assert "--out: " in err
        assert wanted in err
        assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_score_that_does_not_exist_leaves_the_table(run_cli, tmp_path):
    # A test section of one cell has no spread within genes.
    path, out = tmp_path / "two.h5ad", tmp_path / "out"
    tissue = fimp.data.simulate.tissue(n_cells=61, n_genes=18, n_pairs=4)
    tissue.obs["section"] = ["a"] * 60 + ["b"]
    tissue.write_h5ad(path)
    arguments = [*COMMON, "--data", path, "--test-section", "b", "--models", "mean,mlp", "--seeds", 2, "--epochs", 1]
    code, _, err = run_cli(*arguments, "--out", out)
    assert (code, err) == (0, "")
    results = json.loads((out / "results.json").read_text())
    for row in results["summary"]:
        assert row["metrics"]["r2_gene"] == {"mean": None, "std": None}
        assert row["interval"] is None  # of one cell
    assert {entry["verdict"] for entry in results["comparisons"]} == {"within noise"}
    assert "| – |" in (out / "results.md").read_text()
    assert run_cli(*arguments, "--out", out, "--resume")[0] == 0


@pytest.mark.parametrize("file", ["statistics.safetensors", "best.safetensors", "results.json"])
def test_a_run_that_is_cut_off_while_it_is_written_resumes(run_cli, tissue_file, tmp_path, monkeypatch, file):
    arguments = [*COMMON, "--data", tissue_file, "--models", "gcn", "--seeds", 1, "--epochs", 8]
    assert run_cli(*arguments, "--out", tmp_path / "whole")[0] == 0

    def cut(write):
        def until(*what):
            if any(getattr(part, "name", None) == file for part in what):
                raise KeyboardInterrupt
            return write(*what)

        return until

    with monkeypatch.context() as patch:
        patch.setattr(single, "save_tree", cut(single.save_tree))
        patch.setattr(single, "write_json", cut(single.write_json))
        assert run_cli(*arguments, "--out", tmp_path / "cut")[0] == 130
    code, _, err = run_cli(*arguments, "--out", tmp_path / "cut", "--resume")
    assert (code, err) == (0, "")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")


def test_a_time_budget_is_kept_and_every_model_gets_a_row(run_cli, tissue_file, tmp_path):
    out = tmp_path / "out"
    begun = time.monotonic()
    code, _, err = run_cli(
        *COMMON, "--data", tissue_file, "--models", "mean,mlp,fimp-base", "--seeds", 2, "--epochs", 100_000,
        "--max-minutes", 0.2, "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert time.monotonic() - begun < 12 + 6
    results = json.loads((out / "results.json").read_text())
    assert [row["model"] for row in results["summary"]] == ["mean", "mlp", "fimp-base"]
    stored = yaml.safe_load((out / "runs" / "mlp" / "seed0" / "config.yaml").read_text())
    assert 0 < stored["steps"] <= stored["planned_steps"] <= 200_000
    code, text, _ = run_cli("repeat", out / "runs" / "mlp" / "seed0")
    assert code == 0
    assert "identical to the digit" in text


def test_a_tiny_budget_still_ends_well(run_cli, tissue_file, tmp_path):
    out = tmp_path / "out"
    code, _, err = run_cli(
        *COMMON, "--data", tissue_file, "--models", "mean,gcn", "--seeds", 3, "--max-minutes", 0.0001, "--out", out
    )
    assert (code, err) == (0, "")
    assert [row["model"] for row in json.loads((out / "results.json").read_text())["summary"]] == ["mean", "gcn"]


def test_fraction_crops(run_cli, tissue_file, tmp_path):
    out = tmp_path / "out"
    code, _, _ = run_cli(
        *COMMON, "--data", tissue_file, "--models", "mean", "--seeds", 1, "--fraction", 0.2, "--out", out
    )
    assert code == 0
    assert json.loads((out / "results.json").read_text())["data"]["n_nodes"] == 30


@pytest.mark.parametrize("options", [("--split", "blocks"), ("--normalize", "visible"), ("--graph", "delaunay")])
def test_options_run(run_cli, tissue_file, tmp_path, options):
    out = tmp_path / "out"
    arguments = [*COMMON, "--data", tissue_file, "--models", "gcn", "--seeds", 1, "--epochs", 1, "--out", out]
    assert run_cli(*arguments, *options)[0] == 0
