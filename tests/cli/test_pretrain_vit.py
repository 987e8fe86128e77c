import sys

import numpy as np
import pytest
from PIL import Image

import fimp

SIZE = [
    "--image-size", 16, "--patch-size", 4, "--dim", 16, "--layers", 1, "--heads", 2, "--hidden", 16,
    "--decoder-dim", 8, "--decoder-layers", 1, "--batch-size", 16, "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Stripes along rows or columns, as wide as half a patch, of the size that is decoded: patches are alike."""
    folder = tmp_path_factory.mktemp("images")
    along, across = np.mgrid[:18, :18] // 2 % 2
    for index in range(48):
        pixels = np.stack([40 + 4 * index * (along if index % 2 else across)] * 3, 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def test_pretrain_and_read_the_model(run_cli, images, tmp_path):
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    code, text, err = run_cli("pretrain", "vit", "--data", images, "--out", tmp_path / "vit", "--epochs", 3, *SIZE)
    (images / "broken.jpg").unlink()
    assert (code, err) == (0, "")
    assert "48 images" in text
    assert "1 images left out" in text
    assert {path.name for path in (tmp_path / "vit").iterdir()} == {
        "config.json", "preprocessor_config.json", "model.safetensors", "pretraining.csv", "pretraining.png"
    }  # fmt: skip
    assert not list(tmp_path.glob(".*"))
    model = fimp.foundation.load(tmp_path / "vit")
    assert model.images.size == (16, 16)
    code, text, _ = run_cli("models", "info", tmp_path / "vit")
    assert code == 0
    assert "vit" in text


def test_training_learns_to_fill_in(run_cli, images, tmp_path):
    code, _, _ = run_cli(
        "pretrain", "vit", "--data", images, "--out", tmp_path / "vit", "--epochs", 40, *SIZE, "--lr", 0.01
    )
    assert code == 0
    rows = (tmp_path / "vit" / "pretraining.csv").read_text().split("\n")
    column = rows[0].split(",").index("val_r2")
    scores = [float(row.split(",")[column]) for row in rows[1:] if row and row.split(",")[column]]
    assert scores[-1] > 0.5 > scores[0]


def test_an_interrupted_pretraining_goes_on_to_the_same_model(run_cli, images, tmp_path, monkeypatch):
    command = ["pretrain", "vit", "--data", images, "--epochs", 4, *SIZE, "--out"]
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
    whole, part = (tmp_path / name / "model.safetensors" for name in ("whole", "part"))
    assert whole.read_bytes() == part.read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--patch-size", 5], "patch size 5 does not divide image size 16"),
        (["--mask-ratio", 1], "mask_ratio=1.0"),
        (["--heads", 3], "multiple of 4 and of heads=3"),
        (["--on-error", "ignore"], "--on-error: 'ignore' is unknown"),
        (["--lr", 0], "--lr: 0.0 is no positive number"),
        (["--dropout", 1], "dropout=1.0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run_cli, images, tmp_path, flags, message):
    code, _, err = run_cli("pretrain", "vit", "--data", images, "--out", tmp_path / "vit", *SIZE, *flags)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_broken_images_can_stop_it(run_cli, images, tmp_path):
    table = tmp_path / "images.csv"
    (tmp_path / "broken.png").write_bytes(b"nothing")
    table.write_text(f"path\n{images / '0.png'}\nbroken.png\n")
    command = ["pretrain", "vit", "--data", table, "--out", tmp_path / "vit", *SIZE]
    code, _, err = run_cli(*command, "--on-error", "fail")
    assert code == 2
    assert "broken.png: not readable as an image" in err
    assert not (tmp_path / "vit").exists()
