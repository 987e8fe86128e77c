import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fimp
from fimp.cli.repeat import repeat
from fimp.data import load_cells, simulate
from fimp.errors import FIMPError
from fimp.tasks import ExpressionTask
from fimp.train import processes
from fimp.train.callbacks import read_metrics
from fimp.train.single import side_by_side

SCRIPT = Path(__file__).with_name("together.py")
_spec = importlib.util.spec_from_file_location("together", SCRIPT)
together = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(together)
torchrun = together.torchrun

#: Seeds per process, such that one seed of the training part is left over.
BATCH = 18
EPOCHS = 4
NAMES = ["mlp", "fimp-base", "type:fimp-base", "type:gat"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    torchrun(SCRIPT, folder, BATCH, EPOCHS, *NAMES, "cut:fimp-base")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one_with_twice_the_batch(two, tmp_path, name):
    """Also where the last batch of an epoch leaves one of them without seeds."""
    wanted = together.train(tmp_path, name, 2 * BATCH, EPOCHS)
    assert wanted["train"] % (2 * BATCH) == 1
    found = [json.loads((two / f"{rank}.json").read_text())[name] for rank in range(2)]
    assert found[0] == found[1]
    assert found[0]["steps"] == wanted["steps"]
    assert found[0]["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
    losses = [
        [float(row["train_loss"]) for row in read_metrics(folder / "metrics.csv")]
        for folder in (tmp_path, two / together.folder_of(name))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(losses[0]) >= 4


def test_a_killed_run_of_two_processes_ends_with_the_numbers_of_one_that_was_not(two):
    found = json.loads((two / "0.json").read_text())
    assert found["cut:fimp-base"] == found["fimp-base"]
    rows = [read_metrics(two / folder / "metrics.csv") for folder in ("fimp-base", "cut-fimp-base")]
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def tissue_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tissue.h5ad"
    simulate.tissue(n_cells=150, n_genes=18, n_pairs=4).write_h5ad(path)
    return path


def test_the_command_trains_in_two_processes_of_which_one_writes_and_prints(tissue_file, tmp_path):
    out = tmp_path / "out"
    command = ["-m", "fimp", "compare", "expression", "--data", tissue_file, "--models", "mean,fimp-base"]
    command += ["--batch-size", 32, "--seeds", 1, "--epochs", 3, "--device", "cpu", "--out", out]
    done = torchrun(*command)
    assert done.stdout.count("results.json") == 1
    assert "Warning" not in done.stderr
    results = json.loads((out / "results.json").read_text())
    [run] = [run for run in results["runs"] if run["model"] == "fimp-base"]
    folder = out / "runs" / "fimp-base" / "seed0"
    kept = {"config.yaml", "metrics.csv", "checkpoints", "results.json", "statistics.safetensors"}
    assert {path.name for path in folder.iterdir()} == kept
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.safetensors"]
    # What two processes scored, one scores as well.
    assert fimp.load(folder).evaluate() == pytest.approx(run["metrics"], abs=1e-6)
    assert run["steps"] == 3 * -(-len(ExpressionTask(load_cells(tissue_file)).split["train"]) // 64)
    with pytest.raises(FIMPError, match="2 processes trained it"):
        repeat(folder, None)
    # Nothing is left to do; finished runs are taken as they are.
    torchrun(*command, "--resume")
    assert json.loads((out / "results.json").read_text())["runs"] == results["runs"]


def test_two_processes_pretrain_a_foundation_model_as_one_with_twice_the_batch(tissue_file, tmp_path):
    command = ["-m", "fimp", "pretrain", "scgpt", "--data", tissue_file, "--epochs", 3, "--device", "cpu"]
    command += ["--dim", 16, "--layers", 2, "--heads", 2, "--hidden", 16]
    for more in ([], ["--shard"]):
        done = torchrun(*command, "--batch-size", 16, *more, "--out", tmp_path / "".join(["two", *more]))
        assert done.stdout.count("use it as") == 1
        assert "Warning" not in done.stderr
    alone = [sys.executable, *map(str, command), "--batch-size", "32", "--out", str(tmp_path / "one")]
    subprocess.run(alone, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=600)
    rows = [read_metrics(tmp_path / folder / "pretraining.csv") for folder in ("one", "two", "two--shard")]
    assert [len(part) for part in rows] == [3, 3, 3]
    for name in ("train_loss", "val_mse"):
        one, *others = ([float(row[name]) for row in part] for part in rows)
        for two in others:
            assert one == pytest.approx(two, abs=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "two--shard"}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["models"], "torchrun: 'fimp models' runs in one process"),
        (["compare", "expression", "--data", "missing.h5ad"], "missing.h5ad"),
    ],
)
def test_a_mistake_is_told_once_and_ends_all_processes(command, message):
    done = torchrun("-m", "fimp", *command, check=False)
    assert done.returncode != 0
    assert done.stderr.count("fimp: error: ") == 1
    assert message in done.stderr


def test_processes_that_train_together_do_one_run_at_a_time(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert side_by_side(None, 5, "cpu")[0] == 1
    with pytest.raises(FIMPError, match="--jobs: 3, but processes that torchrun started"):
        side_by_side(3, 5, "cpu")


def test_one_process_is_alone_and_leads():
    assert (processes.count(), processes.rank(), processes.leads()) == (1, 0, True)
    assert processes.of_first("x") == "x"
    assert processes.in_turn([1, 2]) == [1, 2]
