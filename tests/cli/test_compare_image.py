import json

import pytest

from fimp.data import simulate
from fimp.foundation.vit_mae import new_vit_mae, save_vit_mae


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    simulate.images(folder, n_places=60, labelled=1.0, seed=0)
    return folder / "images.csv"


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vit"
    save_vit_mae(new_vit_mae(16, 8, dim=16, layers=1, heads=2, hidden=16, decoder_dim=8, decoder_layers=1), folder)
    return folder


SIZES = ["--image-size", 16, "--patch-size", 8]
COMMON = ["--device", "cpu", "--jobs", 1, "--seeds", 1]


def test_image_and_its_resume(run_cli, images, vit, tmp_path):
    names = ["mean", "sage", "fimp-base", "fimp-base:no-edges", f"fm:{vit}", f"fimp:{vit}"]
    command = [
        "compare", "image", "--data", images, *SIZES, *COMMON, "--epochs", 2, "--models", ",".join(names),
        "--out", tmp_path / "out",
    ]  # fmt: skip
    code, text, err = run_cli(*command)
    assert (code, err) == (0, "")
    assert "768 features" in text
    first = (tmp_path / "out" / "results.json").read_text()
    results = json.loads(first)
    assert [row["model"] for row in results["summary"]] == names
    assert set(results["summary"][0]["metrics"]) == {"accuracy", "f1", "f1_macro"}
    assert run_cli(*command, "--resume").code == 0
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [run["metrics"] for run in again["runs"]] == [run["metrics"] for run in results["runs"]]
    (run,) = (tmp_path / "out").glob("runs/fimp-base/seed0")
    code, text, _ = run_cli("repeat", run)
    assert code == 0


def test_zero_shot_compares_what_the_paper_compares(run_cli, images, vit, tmp_path):
    code, _, err = run_cli(
        "compare", "zeroshot", "--data", images, "--vit", vit, *SIZES, *COMMON, "--out", tmp_path / "out"
    )
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["model"] for row in results["summary"]] == ["mean", "sage", f"fm:{vit}", f"fimp:{vit}"]
    assert all(run["steps"] == 0 for run in results["runs"])


def test_sizes_that_nobody_gives_are_those_of_images_and_checkpoint(run_cli, images, vit, tmp_path):
    command = ["compare", "image", "--data", images, *COMMON, "--models", "mean", "--out", tmp_path / "out"]
    assert "6,912 features" in run_cli(*command).out
    command = ["compare", "zeroshot", "--data", images, "--vit", vit, *COMMON, "--out", tmp_path / "shot"]
    code, text, err = run_cli(*command)
    assert (code, err) == (0, "")
    assert "768 features" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--patch-size", 5], ["--patch-size: 5", "--image-size 16"]),
        (["--label", "nothing"], ["nothing"]),
        (["--split-by", "nothing"], ["--split-by", "nothing"]),
        (["--same-place", "nothing"], ["--same-place", "nothing"]),
        (["--radius-miles", 0], ["radius"]),
        (["--neighbors", 0], ["neighbors"]),
        (["--image-size", 3], ["--image-size: 3"]),
        (["--on-error", "ignore"], ["--on-error", "ignore"]),
        (["--class-weights", "all"], ["--class-weights", "all"]),
    ],
)
def test_mistakes_are_one_line(run_cli, images, tmp_path, flags, words):
    code, _, err = run_cli(
        "compare", "image", "--data", images, *SIZES, *flags, "--models", "mean", "--out", tmp_path / "out"
    )
    assert code == 2
    assert err.count("\n") == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize("data", ["", "nowhere.csv"])
def test_data_that_is_not_there(run_cli, tmp_path, data):
    code, _, err = run_cli("compare", "zeroshot", "--data", data, "--out", tmp_path / "out")
    assert code == 2
    assert err.count("\n") == 1


def test_a_model_that_reads_cells_is_refused_before_anything_is_written(run_cli, images, tmp_path):
    from fimp.foundation.scgpt_files import new_scgpt, save_scgpt

    save_scgpt(new_scgpt(["a"], dim=8, layers=1, heads=2, hidden=8), tmp_path / "scgpt")
    code, _, err = run_cli(
        "compare", "image", "--data", images, *SIZES, "--models", f"fm:{tmp_path / 'scgpt'}", "--out", tmp_path / "out"
    )
    assert code == 2
    assert "reads no images" in err
    assert not (tmp_path / "out").exists()
