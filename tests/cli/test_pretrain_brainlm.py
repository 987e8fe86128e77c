import csv
import sys

import numpy as np
import pytest

import fimp
from fimp.data.simulate import recording

SIZE = [
    "--dim", 16, "--layers", 1, "--heads", 2, "--hidden", 16, "--window", 20, "--patch", 5, "--batch-size", 4,
    "--device", "cpu",
]  # fmt: skip
R, T = 5, 60


def write(folder, subjects=3):
    folder.mkdir()
    for number in range(subjects):
        found = recording(n_regions=R, n_times=T, subject=number)
        np.savez(folder / f"s{number}.npz", signal=found.signal, tr=2.0, subject=f"S{number}")
    with (folder / "regions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["name", "x", "y", "z"], *[[f"r{row}", *place] for row, place in enumerate(found.xyz)]])
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "data")


def test_pretrain_then_load(run_cli, folder, tmp_path):
    out = tmp_path / "model"
    code, text, err = run_cli("pretrain", "brainlm", "--data", folder, "--out", out, "--epochs", 3, *SIZE)
    assert (code, err) == (0, "")
    assert "3 recordings of 3 subjects, 5 regions, 60 volumes" in text
    assert "2 subjects train, 1 validate: S" in text
    assert "validation r2" in text
    assert {path.name for path in out.iterdir()} == {
        "config.json", "pytorch_model.bin", "scaling.json", "pretraining.csv", "pretraining.png"
    }  # fmt: skip
    assert not list(tmp_path.glob(".*"))
    code, text, err = run_cli("models", "info", out)
    assert (code, err) == (0, "")
    assert "brainlm" in text
    model = fimp.foundation.load(out)
    assert (model.patch, model.mask_ratio, model.scaling.detrend) == (5, 0.75, True)
    assert model.scaling.median.shape == (R,)


def test_flags_reach_the_model(run_cli, folder, tmp_path):
    table = (folder / "regions.csv").rename(tmp_path / "atlas.csv")
    command = ["pretrain", "brainlm", "--data", folder, "--regions", table, "--out", tmp_path / "model"]
    assert run_cli(*command, "--epochs", 0, *SIZE, "--mask-ratio", 0.5, "--no-detrend").code == 0
    model = fimp.foundation.load(tmp_path / "model")
    assert (model.mask_ratio, model.scaling.detrend) == (0.5, False)
    assert model.config["num_timepoints_per_voxel"] == 20


def test_one_subject_is_enough(run_cli, tmp_path):
    folder = write(tmp_path / "one", subjects=1)
    code, text, err = run_cli("pretrain", "brainlm", "--data", folder, "--out", tmp_path / "m", "--epochs", 1, *SIZE)
    assert (code, err) == (0, "")
    assert "one subject: the end of its recordings validates" in text


def test_a_seed_repeats_a_model_to_the_digit(run_cli, folder, tmp_path):
    for name in ("one", "two"):
        command = ["pretrain", "brainlm", "--data", folder, "--out", tmp_path / name, "--epochs", 2, *SIZE]
        assert run_cli(*command, "--dropout", 0.1).code == 0
    for file in ("pytorch_model.bin", "config.json", "scaling.json", "pretraining.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_an_interrupted_pretraining_goes_on_to_the_same_model(run_cli, folder, tmp_path, monkeypatch):
    command = ["pretrain", "brainlm", "--data", folder, "--epochs", 4, *SIZE, "--out"]
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
    code, _, err = run_cli(*command, tmp_path / "part", "--mask-ratio", 0.5)
    assert code == 2
    assert "other settings" in err
    assert run_cli(*command, tmp_path / "part").code == 0
    whole, part = (tmp_path / name / "pytorch_model.bin" for name in ("whole", "part"))
    assert whole.read_bytes() == part.read_bytes()


def test_regions_with_nan_are_reported_and_trained_around(run_cli, folder, tmp_path):
    signal = np.load(folder / "s0.npz")["signal"].copy()
    signal[2, 7], signal[4] = np.nan, 900.0
    np.savez(folder / "s0.npz", signal=signal)
    code, text, err = run_cli("pretrain", "brainlm", "--data", folder, "--out", tmp_path / "m", "--epochs", 1, *SIZE)
    assert (code, err) == (0, "")
    assert "s0.npz: 2 regions, constant or with NaN, count as zero (r2, r4)" in text
    assert "nan" not in (tmp_path / "m" / "pretraining.csv").read_text()


BAD = {
    "no-data": (lambda f: [path.unlink() for path in f.glob("s*")], [], "no recordings"),
    "no-regions": (lambda f: (f / "regions.csv").unlink(), [], "regions.csv: no table of regions"),
    "other-regions": (lambda f: np.savez(f / "s1.npz", signal=np.ones((4, T))), [], "s1.npz: signal has shape [4, 60]"),
    "pickled": (lambda f: np.savez(f / "s1.npz", signal=np.array([{}])), [], "s1.npz: holds Python objects"),
    "damaged": (lambda f: (f / "s1.npz").write_bytes((f / "s1.npz").read_bytes()[:-99]), [], "s1.npz: not an .npz"),
    "long-window": (lambda f: None, ["--window", 65], "s0.npz: 60 volumes, wanted at least a window of 65"),
    "odd-window": (lambda f: None, ["--window", 23], "--window: 23 is no multiple of --patch 5; use 25"),
    "ratio": (lambda f: None, ["--mask-ratio", 1], "--mask-ratio: 1.0 is outside (0, 1)"),
    "heads": (lambda f: None, ["--heads", 3], "heads=3 does not divide dim=16"),
    "layers": (lambda f: None, ["--layers", 0], "layers=0"),
    "lr": (lambda f: None, ["--lr", 0], "--lr: 0.0 is no positive number"),
    "epochs": (lambda f: None, ["--epochs", -1], "--epochs: -1 is negative"),
    "no-such-regions": (lambda f: None, ["--regions", "nowhere.csv"], "nowhere.csv: no table of regions there"),
}


@pytest.mark.parametrize("kind", BAD)
def test_mistakes_are_one_line_and_leave_nothing(run_cli, folder, tmp_path, kind):
    break_it, flags, message = BAD[kind]
    break_it(folder)
    code, _, err = run_cli("pretrain", "brainlm", "--data", folder, "--out", tmp_path / "model", *SIZE, *flags)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_is_not_there_is_one_line(run_cli, tmp_path):
    code, _, err = run_cli("pretrain", "brainlm", "--data", tmp_path / "none", "--out", tmp_path / "model")
    assert code == 2
    assert "none: no such file" in err
