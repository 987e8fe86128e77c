import json
import shutil
import sys

import pytest

import fimp

SIZE = ["--dim", 16, "--layers", 1, "--heads", 2, "--hidden", 16, "--batch-size", 64, "--device", "cpu"]


@pytest.fixture(scope="module")
def tissue_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tissue.h5ad"
    fimp.data.simulate.tissue(n_cells=150, n_genes=18, n_pairs=4).write_h5ad(path)
    return path


def test_pretrain_then_compare(run_cli, tissue_file, tmp_path):
    model = tmp_path / "model"
    code, text, err = run_cli(
        "pretrain", "scgpt", "--data", tissue_file, "--outside", 0.3, "--out", model, "--epochs", 3, *SIZE
    )
    assert (code, err) == (0, "")
    assert "105 cells" in text
    assert {path.name for path in model.iterdir()} == {
        "args.json", "vocab.json", "best_model.pt", "pretraining.csv", "pretraining.png"
    }  # fmt: skip
    assert not list(tmp_path.glob(".*"))
    code, text, err = run_cli("models", "info", model)
    assert (code, err) == (0, "")
    assert "scgpt" in text
    names = [f"fm:{model}", f"fimp:{model}", f"fimp:{model},weights=none,train=frozen"]
    out = tmp_path / "out"
    code, text, err = run_cli(
        "compare", "expression", "--data", tissue_file, "--fraction", 0.3, "--models", ",".join(["mean", *names]),
        "--seeds", 2, "--epochs", 2, "--jobs", 1, "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    results = json.loads((out / "results.json").read_text())
    assert [row["model"] for row in results["summary"]] == ["mean", *names]
    stored = {(run["model"], run["seed"]): run["metrics"] for run in results["runs"]}
    folders = {json.dumps(fimp.load(folder.parent).evaluate()) for folder in out.glob("runs/*/seed1/config.yaml")}
    assert folders == {json.dumps(stored[name, 1]) for name in ["mean", *names]}


def test_a_seed_repeats_a_model_to_the_digit(run_cli, tissue_file, tmp_path):
    for name in ("one", "two"):
        command = ["pretrain", "scgpt", "--data", tissue_file, "--out", tmp_path / name, "--epochs", 2, *SIZE]
        assert run_cli(*command).code == 0
    assert (tmp_path / "one" / "best_model.pt").read_bytes() == (tmp_path / "two" / "best_model.pt").read_bytes()


def test_an_interrupted_pretraining_goes_on_to_the_same_model(run_cli, tissue_file, tmp_path, monkeypatch):
    command = ["pretrain", "scgpt", "--data", tissue_file, "--epochs", 4, *SIZE, "--out"]
    assert run_cli(*command, tmp_path / "whole").code == 0
    from fimp.train import callbacks

    class Stop(callbacks.Report):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["fimp.train.fit"], "Report", Stop)
        assert run_cli(*command, tmp_path / "part").code == 130
    assert not (tmp_path / "part").exists()
    code, _, err = run_cli(*command, tmp_path / "part", "--lr", 0.01)
    assert code == 2
    assert "other settings" in err
    assert run_cli(*command, tmp_path / "part").code == 0
    whole, part = (tmp_path / name / "best_model.pt" for name in ("whole", "part"))
    assert whole.read_bytes() == part.read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--outside", 1.5], "--outside: 1.5 is outside (0, 1)"),
        (["--seed", -1], "--seed: -1 is negative"),
        (["--lr", "inf"], "--lr: inf is no positive number"),
        (["--outside", 0.3, "--spatial-key", "nowhere"], "--spatial-key can be spatial"),
        (["--heads", 3], "heads=3 does not divide dim=16"),
        (["--mask-ratio", 0], "mask_ratio"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run_cli, tissue_file, tmp_path, flags, message):
    out = tmp_path / "model"
    code, _, err = run_cli("pretrain", "scgpt", "--data", tissue_file, "--out", out, *SIZE, *flags)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_stays_as_it_is(run_cli, tissue_file, tmp_path):
    code, _, err = run_cli("pretrain", "scgpt", "--data", tissue_file, "--out", tmp_path)
    assert code == 2
    assert "exists" in err


def test_what_fails_in_the_network_leaves_earlier_results(run_cli, tissue_file, tmp_path):
    from fimp.foundation.scgpt_files import new_scgpt, save_scgpt

    save_scgpt(new_scgpt(["nobody", "knows"], dim=8, layers=1, heads=2, hidden=8), tmp_path / "strange")
    command = [
        "compare",
        "expression",
        "--data",
        tissue_file,
        "--seeds",
        1,
        "--device",
        "cpu",
        "--out",
        tmp_path / "out",
    ]
    assert run_cli(*command, "--models", "mean").code == 0
    before = (tmp_path / "out" / "results.json").read_text()
    code, _, err = run_cli(*command, "--models", f"mean,fm:{tmp_path / 'strange'}")
    assert code == 2
    assert "none of the 18 genes" in err
    assert (tmp_path / "out" / "results.json").read_text() == before


def test_models_that_are_called_alike_have_folders_of_their_own(run_cli, tissue_file, tmp_path):
    models = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        model = tmp_path / place / "model"
        assert run_cli("pretrain", "scgpt", "--data", tissue_file, "--out", model, "--epochs", 1, *SIZE).code == 0
        models += [f"fm:{model}", f"fm:{model},layers=-1:", f"fm:{model},layers=:1"]
    out = tmp_path / "out"
    command = [
        "compare",
        "expression",
        "--data",
        tissue_file,
        "--seeds",
        1,
        "--device",
        "cpu",
        "--epochs",
        1,
        "--jobs",
        1,
    ]
    assert run_cli(*command, "--models", ",".join(models), "--out", out).code == 0
    assert len(list((out / "runs").iterdir())) == 6


def test_a_run_finds_its_model_from_anywhere_and_notices_another_one(run_cli, tissue_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["pretrain", "scgpt", "--data", tissue_file, "--out", "model", "--epochs", 1, *SIZE]
    assert run_cli(*command).code == 0
    compare = [
        "compare", "expression", "--data", tissue_file, "--models", "fm:model", "--seeds", 1, "--epochs", 1,
        "--jobs", 1, "--device", "cpu", "--out", "out",
    ]  # fmt: skip
    assert run_cli(*compare).code == 0
    (run,) = (tmp_path / "out").glob("runs/*/seed0")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    stored = json.loads((run / "results.json").read_text())["metrics"]
    assert fimp.load(run).evaluate() == stored
    monkeypatch.chdir(tmp_path)
    # What is no part of the model may come and go.
    (tmp_path / "model" / "pretraining.png").unlink()
    assert run_cli(*compare, "--resume").code == 0
    shutil.rmtree(tmp_path / "model")
    code, _, err = run_cli("repeat", run)
    assert code == 2
    assert "gone, but fm:model was trained with it" in err
    assert run_cli(*command, "--seed", 1).code == 0
    for again in (["repeat", run], [*compare, "--resume"]):
        code, _, err = run_cli(*again)
        assert code == 2
        assert "changed since fm:model" in err or "files.sha256" in err
    with pytest.raises(fimp.FIMPError, match="changed since"):
        fimp.load(run)
