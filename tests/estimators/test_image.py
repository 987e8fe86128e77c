import csv

import numpy as np
import pytest

import fimp
from fimp.errors import FIMPError

OPTIONS = {"image_size": 16, "patch_size": 8, "dim": 16, "lr": 3e-3, "batch_size": 32}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return fimp.data.simulate.images(tmp_path_factory.mktemp("images"), n_places=70, labelled=1.0, seed=0)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Other images: a path and where it is, no label, no region."""
    path = fimp.data.simulate.images(tmp_path_factory.mktemp("other"), n_places=45, labelled=1.0, seed=3)
    with path.open(newline="") as file:
        rows = [row[:3] for row in csv.reader(file)]
    with (path.parent / "bare.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path.parent / "bare.csv"


@pytest.fixture(scope="module", params=["mean", "sage", "fimp-base"])
def model(request, table):
    return fimp.ImageModel(table, model=request.param, split_by="region", **OPTIONS).fit(max_epochs=4)


def test_the_notebook_interface(model):
    score = model.evaluate()
    assert set(score) == {"accuracy", "f1", "f1_macro"}
    predicted, proba = model.predict(), model.predict_proba()
    assert proba.shape == (70, 4)
    np.testing.assert_allclose(proba.sum(1), 1.0, rtol=1e-5)
    test = model.task.split["test"]
    truth = np.array(model.classes)[model.data.y.numpy()]
    assert (predicted[test] == truth[test]).mean() == pytest.approx(score["accuracy"])
    assert "70 images, 4 classes" in repr(model)
    assert "trained for 4 epochs" in repr(model) or model.config.model == "mean"
    if model.config.model != "mean":
        assert model.embed().shape == (70, 16)


def test_a_saved_model_predicts_other_images_without_labels(model, table, other, tmp_path):
    model.save(tmp_path / "run")
    loaded = fimp.load(tmp_path / "run")
    assert isinstance(loaded, fimp.ImageModel)
    assert loaded.evaluate() == model.evaluate()
    assert np.array_equal(loaded.predict(), model.predict())
    elsewhere = fimp.load(tmp_path / "run", other)
    assert elsewhere.classes == model.classes
    assert elsewhere.predict().shape == (45,)
    assert np.array_equal(elsewhere.predict_proba(), model.predict_proba(other))
    assert any("unlabelled" in note for note in elsewhere.notes)
    with pytest.raises(FIMPError, match="none of these images are"):
        elsewhere.evaluate()
    with pytest.raises(FIMPError, match="make a new one"):
        elsewhere.fit()


def test_other_images_do_not_change_what_the_model_knows(model, other):
    before = model.predict_proba()
    task = model.task_on(other)
    assert task.split == {}
    assert (task.data.y == -1).all()
    assert task.measured is model.task.measured
    assert np.array_equal(model.predict_proba(), before)


def test_a_run_of_zero_shot_is_loaded_too(run_cli, table, other, tmp_path):
    sizes = ["--image-size", 16, "--patch-size", 8, "--device", "cpu", "--jobs", 1, "--seeds", 1]
    out = tmp_path / "out"
    assert run_cli("compare", "zeroshot", "--data", table, "--models", "sage", *sizes, "--out", out).code == 0
    model = fimp.load(out / "runs" / "sage" / "seed0", other)
    assert model.config.task == "zeroshot"
    assert set(model.predict()) <= set(model.classes)
    own = fimp.load(out / "runs" / "sage" / "seed0")
    score = own.evaluate()
    assert own.fit().evaluate() == pytest.approx(score)


def test_mistakes_are_named(table, tmp_path):
    with pytest.raises(FIMPError, match="option 'patches' is unknown"):
        fimp.ImageModel(table, patches=3)
    with pytest.raises(FIMPError, match="data is a list"):
        fimp.ImageModel([table])
    with pytest.raises(FIMPError, match="nope"):
        fimp.ImageModel(table, label="nope")
    with pytest.raises(FIMPError, match="does not exist"):
        fimp.ImageModel(tmp_path / "nowhere.csv")


def test_foundation_models_are_trained_as_in_comparisons(table, tmp_path):
    from fimp.foundation.vit_mae import new_vit_mae, save_vit_mae

    vit = tmp_path / "vit"
    save_vit_mae(new_vit_mae(16, 8, dim=16, layers=2, heads=2, hidden=16, decoder_dim=8, decoder_layers=1), vit)
    sizes = {"image_size": 16, "patch_size": 8}
    assert fimp.ImageModel(table, model=f"fimp:{vit}", **sizes).choice.hyperparameters.lr == 1e-4
    assert fimp.ImageModel(table, model=f"fimp:{vit}", lr=1e-3, **sizes).choice.hyperparameters.lr == 1e-3
