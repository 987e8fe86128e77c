import json
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
