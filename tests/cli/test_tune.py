import contextlib
import json
import sqlite3
from dataclasses import asdict

import pytest
import yaml

import fimp
from fimp.models import resolve


@pytest.fixture(scope="module")
def tissue_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tissue.h5ad"
    fimp.data.simulate.tissue(n_cells=120, n_genes=18, n_pairs=4).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def common(tissue_file):
    flags = ("--epochs", "3", "--batch-size", "64", "--device", "cpu", "--jobs", "1")
    return ["expression", "--data", str(tissue_file), *flags]


def best(out):
    return json.loads((out / "best.json").read_text())


def test_every_model_tries_the_same_points_and_the_best_is_used(run_cli, common, tmp_path):
    out = tmp_path / "tuned"
    code, text, err = run_cli("tune", *common, "--models", "mlp,mean,gcn", "--trials", 3, "--out", out)
    assert (code, err) == (0, "")
    stored = best(out)
    assert set(stored["models"]) == {"mlp", "gcn"}
    tried = {name: [trial["params"] for trial in entry["trials"]] for name, entry in stored["models"].items()}
    assert tried["mlp"][1:] == tried["gcn"][1:]
    assert len(tried["mlp"]) == 3
    for name, (own, *_) in tried.items():
        assert asdict(resolve(name).hyperparameters).items() >= own.items()
    for entry in stored["models"].values():
        done = [trial for trial in entry["trials"] if trial["state"] == "complete"]
        top = max(done, key=lambda trial: trial["score"])
        assert entry["score"] == top["score"]
        assert entry["hyperparameters"].items() >= top["params"].items()
    assert (out / "tune.png").read_bytes().startswith(b"\x89PNG")
    assert "--tuned" in text
    compared = tmp_path / "compared"
    code, _, err = run_cli(
        "compare", *common, "--models", "mean,gcn:no-edges", "--seeds", 1, "--tuned", out, "--out", compared
    )
    assert (code, err) == (0, "")
    config = yaml.safe_load((compared / "runs" / "gcn-no-edges" / "seed0" / "config.yaml").read_text())
    assert config["hyperparameters"] == stored["models"]["gcn"]["hyperparameters"]


def test_a_search_does_not_go_on_with_other_cells(run_cli, tmp_path):
    path = tmp_path / "tissue.h5ad"
    arguments = ["tune", "expression", "--data", path, "--models", "mlp", "--trials", 1, "--epochs", 1]
    arguments += ["--jobs", 1, "--out", tmp_path / "tuned"]
    fimp.data.simulate.tissue(n_cells=60, seed=0).write_h5ad(path)
    assert run_cli(*arguments)[0] == 0
    before = (tmp_path / "tuned" / "best.json").read_bytes()
    fimp.data.simulate.tissue(n_cells=60, seed=1).write_h5ad(path)
    code, _, err = run_cli(*arguments)
    assert code == 2
    assert "its trials are of other data than" in err
    assert (tmp_path / "tuned" / "best.json").read_bytes() == before


def test_a_search_goes_on_where_it_was_and_repeats_nothing(run_cli, common, tmp_path, monkeypatch):
    arguments = ["tune", *common, "--models", "mlp"]
    assert run_cli(*arguments, "--trials", 2, "--out", tmp_path / "cut")[0] == 0
    first = best(tmp_path / "cut")["models"]["mlp"]["trials"]
    assert run_cli(*arguments, "--trials", 4, "--out", tmp_path / "cut")[0] == 0
    assert run_cli(*arguments, "--trials", 4, "--out", tmp_path / "whole")[0] == 0
    again = best(tmp_path / "cut")["models"]["mlp"]["trials"]
    assert again[:2] == first
    assert again == best(tmp_path / "whole")["models"]["mlp"]["trials"]


def test_several_data_and_seeds_are_averaged(run_cli, common, tissue_file, tmp_path):
    out = tmp_path / "tuned"
    arguments = ["tune", *common, "--models", "mlp", "--trials", 1, "--seeds", 2, "--also", tissue_file, "--out", out]
    assert run_cli(*arguments)[0] == 0
    stored = best(out)
    assert stored["sources"] == [str(tissue_file)] * 2
    assert stored["seeds"] == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "mlp", "--trials", 0], "--trials: 0"),
        (["--models", "mlp", "--trials", 10**6], "--trials: 1000000"),
        (["--models", "mean"], "--models: nothing in 'mean'"),
        (["--models", "mlp", "--seeds", 0], "--seeds: 0"),
        (["--models", "mlp", "--jobs", 0], "--jobs: 0"),
        (["--models", "mlp", "--also", "nowhere.h5ad"], "nowhere.h5ad: no such file"),
    ],
)
def test_bad_flags_are_refused(run_cli, common, tmp_path, more, message):
    code, _, err = run_cli("tune", *common, *more, "--out", tmp_path / "out")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_trials_of_other_settings_are_not_mixed(run_cli, common, tmp_path):
    arguments = ["tune", *common, "--models", "mlp", "--trials", 1, "--out", tmp_path]
    assert run_cli(*arguments)[0] == 0
    code, _, err = run_cli(*arguments, "--tokens", 9)
    assert code == 2
    assert "options=" in err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "has no best.json"),
        (lambda folder: (folder / "best.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "best.json").write_text('{"models": [], "task": "expression"}'), "is damaged"),
        (lambda folder: (folder / "best.json").write_text('{"models": {}, "task": "celltype"}'), "tuned for celltype"),
        (lambda folder: (folder / "best.json").write_text('{"models": {}, "task": "expression"}'), "was not tuned"),
    ],
)
def test_a_bad_tuning_is_refused(run_cli, common, tmp_path, make, message):
    make(tmp_path)
    code, _, err = run_cli("compare", *common, "--models", "mlp", "--tuned", tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("settings.json", "{", "settings.json is damaged"),
        ("settings.json", "[]", "settings.json is damaged"),
        ("best.json", "[]", "best.json is damaged"),
        ("best.json", "{", "best.json is damaged"),
        ("best.json", '{"models": []}', "best.json is damaged"),
        ("tune.db", "This is some text, and no database at all.", "tune.db is no database of `fimp tune`"),
    ],
)
def test_a_damaged_search_is_refused_before_it_begins(run_cli, common, tmp_path, monkeypatch, name, content, message):
    monkeypatch.setattr("fimp.cli.tune._run", lambda *_: pytest.fail("the search began"))
    (tmp_path / name).write_text(content)
    code, _, err = run_cli("tune", *common, "--models", "mlp", "--trials", 1, "--out", tmp_path)
    assert code == 2
    assert message in err
    assert "--out" in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_storage_is_made_before_workers_share_it(run_cli, common, tmp_path, monkeypatch):
    tables = []

    def run(studies, count):
        with contextlib.closing(sqlite3.connect(tmp_path / "tune.db")) as connection:
            tables.extend(name for (name,) in connection.execute("SELECT name FROM sqlite_master"))
        raise KeyboardInterrupt

    monkeypatch.setattr("fimp.cli.tune._run", run)
    run_cli("tune", *common, "--models", "mlp,gcn", "--out", tmp_path)
    assert {"studies", "trials", "alembic_version"} <= set(tables)


def test_a_checkpoint_that_is_none_is_refused_before_anything_is_written(run_cli, tmp_path):
    import fimp

    fimp.data.simulate.tissue(n_cells=60, n_genes=18, n_pairs=4).write_h5ad(tmp_path / "t.h5ad")
    models, out = f"mlp,fm:{tmp_path / 'nothing'}", tmp_path / "tuned"
    code, _, err = run_cli(
        "tune", "expression", "--data", tmp_path / "t.h5ad", "--models", models, "--trials", 1, "--out", out
    )
    assert code == 2
    assert "does not exist" in err
    assert not out.exists()
