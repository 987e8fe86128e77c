import json

import numpy as np
import pytest
import torch

from fimp.data import simulate
from fimp.foundation.brainlm_files import new_brainlm, save_brainlm
from fimp.train import fit
from fimp.train.runs import RunConfig
from fimp.train.single import threads


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return simulate.recordings(tmp_path_factory.mktemp("recordings"), n_subjects=3, n_regions=8, n_times=70)


@pytest.fixture(scope="module")
def brainlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "brainlm"
    torch.manual_seed(0)
    save_brainlm(new_brainlm(8, 40, patch=5, dim=8, layers=1, heads=2, hidden=8, decoder_layers=1), folder)
    return folder


SIZES = ["--window", 40, "--patch", 5, "--neighbors", 3]
COMMON = ["--device", "cpu", "--jobs", 1, "--seeds", 1]


def test_fmri_and_its_resume(run_cli, recordings, brainlm, tmp_path):
    names = ["mean", "interpolate", "gaussian", "gcn", "fimp-base", "fimp-base:no-edges", f"fm:{brainlm}"]
    names.append(f"fimp:{brainlm}")
    command = [
        "compare", "fmri", "--data", recordings, *SIZES, *COMMON, "--epochs", 2, "--models", ",".join(names),
        "--out", tmp_path / "out",
    ]  # fmt: skip
    code, text, err = run_cli(*command)
    assert (code, err) == (0, "")
    assert "40 features" in text
    assert (tmp_path / "out" / "reconstructions.png").stat().st_size > 10_000
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = [
        name
        for name in names
        for name in ([f"gcn+{f}" for f in ("noise", "mean", "interpolate")] if name == "gcn" else [name])
    ]
    assert [row["model"] for row in results["summary"]] == rows
    assert set(results["summary"][0]["metrics"]) == {"mse", "r2"}
    assert run_cli(*command, "--resume").code == 0
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [run["metrics"] for run in again["runs"]] == [run["metrics"] for run in results["runs"]]
    for model in ("gcn+noise", "fimp-base", "gaussian"):
        (run,) = (tmp_path / "out").glob(f"runs/{model}/seed0")
        code, text, _ = run_cli("repeat", run)
        assert code == 0
        assert "identical" in text


def test_an_interrupted_run_ends_like_one_that_was_not(run_cli, recordings, tmp_path):
    command = ["compare", "fmri", "--data", recordings, *SIZES, *COMMON, "--epochs", 4, "--models", "fimp-base"]
    assert run_cli(*command, "--out", tmp_path / "whole").code == 0
    config = RunConfig.load(tmp_path / "whole" / "runs" / "fimp-base" / "seed0")
    folder = tmp_path / "part" / "runs" / "fimp-base" / "seed0"
    config.save(folder)
    task = config.make_task(config.read())

    def interrupt(score):
        raise KeyboardInterrupt

    with threads(config.threads), pytest.raises(KeyboardInterrupt):
        fit(task, config.choice, config.train, folder, resume=True, on_validation=interrupt)
    assert run_cli(*command, "--out", tmp_path / "part", "--resume").code == 0
    found = [
        json.loads((tmp_path / name / "results.json").read_text())["runs"][0]["metrics"] for name in ("whole", "part")
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--patch", 0], ["--patch: 0"]),
        (["--window", 42], ["--window: 42", "--patch 5"]),
        (["--patch", 40], ["--patch: 40", "--window 40"]),
        (["--window", 100], ["70 volumes", "window of 100"]),
        (["--mask-ratio", 1.0], ["--mask-ratio: 1.0"]),
        (["--masking", "some"], ["--masking", "some"]),
        (["--graph", "some"], ["--graph", "some"]),
        (["--neighbors", 0], ["--neighbors: 0"]),
        (["--split", "by"], ["--split", "'by'"]),
        (["--band-pass", 0.1, 0.01], ["--band-pass: 0.1 0.01", "use 0.01 0.1"]),
        (["--band-pass", 0.01, 0.25], ["sub-01.npz", "ends at or above 0.25 Hz", "2 s per volume"]),
        (["--tr", -1], ["--tr: -1"]),
        (["--atlas", "nowhere.nii"], ["--atlas: nowhere.nii", "no such file"]),
        (["--split", "time"], ["70 volumes", "wanted at least 85", "--window"]),
        (["--regions", "nowhere.csv"], ["nowhere.csv"]),
        (["--models", "gcn+more"], ["'more' of 'gcn+more'", "noise, mean, interpolate"]),
        (["--models", "fimp-base+mean"], ["fimp-base needs nothing filled in"]),
        (["--models", "gcn,gcn+mean"], ["'gcn+mean' is named 2 times"]),
        (["--models", "fimp-base,genes=x.npz"], ["embeddings of genes"]),
    ],
)
def test_mistakes_are_one_line(run_cli, recordings, tmp_path, flags, words):
    code, _, err = run_cli(
        "compare", "fmri", "--data", recordings, *SIZES, "--models", "mean", *flags, "--out", tmp_path / "out"
    )
    assert code == 2
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", ["", "nowhere"])
def test_data_that_is_not_there(run_cli, tmp_path, data):
    code, _, err = run_cli("compare", "fmri", "--data", data, "--out", tmp_path / "out")
    assert code == 2
    assert err.count("\n") == 1


def test_structure_is_asked_of_files_that_have_none(run_cli, recordings, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "regions.csv").write_text((recordings / "regions.csv").read_text())
    for path in recordings.glob("*.npz"):
        np.save(folder / f"{path.stem}.npy", np.load(path)["signal"])
    code, _, err = run_cli(
        "compare",
        "fmri",
        "--data",
        folder,
        *SIZES,
        "--graph",
        "structural",
        "--models",
        "mean",
        "--out",
        tmp_path / "o",
    )
    assert code == 2
    assert "--graph structural" in err
    assert err.count("\n") == 1


def test_rules_and_fills_are_refused_elsewhere(run_cli, tmp_path):
    for name, words in (("gaussian", "no model of"), ("gcn+mean", "nothing to fill in")):
        code, _, err = run_cli(
            "compare", "expression", "--data", "simulated", "--models", name, "--out", tmp_path / "out"
        )
        assert code == 2
        assert words in err


def test_a_checkpoint_with_other_patches_is_refused(run_cli, recordings, brainlm, tmp_path):
    code, _, err = run_cli(
        "compare", "fmri", "--data", recordings, "--window", 40, "--patch", 4, "--models", f"fm:{brainlm}",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 2
    assert "--patch: 4 is no multiple of the patch length 5" in err
    assert not (tmp_path / "out").exists()


def test_tuning_knows_the_rows(run_cli, recordings, tmp_path):
    shared = [
        "--data",
        recordings,
        *SIZES,
        "--models",
        "gcn+mean,gaussian",
        "--device",
        "cpu",
        "--jobs",
        1,
        "--epochs",
        1,
    ]
    assert run_cli("tune", "fmri", *shared, "--trials", 2, "--out", tmp_path / "tune").code == 0
    assert set(json.loads((tmp_path / "tune" / "best.json").read_text())["models"]) == {"gcn+mean"}
    code, _, err = run_cli(
        "compare", "fmri", *shared, "--seeds", 1, "--tuned", tmp_path / "tune", "--out", tmp_path / "out"
    )
    assert (code, err) == (0, "")
