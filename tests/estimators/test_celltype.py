import numpy as np
import pytest

import fimp
from fimp.errors import FIMPError


@pytest.fixture(scope="module")
def adata():
    adata = fimp.data.simulate.tissue(n_cells=300, n_genes=18, n_types=3, n_pairs=4)
    labels = adata.obs["cell_type"].astype(object)
    labels.iloc[:30] = np.nan
    adata.obs["partial"] = labels
    return adata


@pytest.fixture(scope="module", params=["mean", "gcn", "fimp-base"])
def model(request, adata):
    return fimp.CellTypeModel(adata, label="partial", model=request.param, dim=32, lr=3e-3, batch_size=32).fit(20)


def test_the_notebook_interface(adata, model):
    score = model.evaluate()
    assert set(score) == {"accuracy", "f1", "f1_macro"}
    predicted, proba = model.predict(), model.predict_proba()
    assert set(predicted) <= set(adata.obs["cell_type"].unique())
    np.testing.assert_allclose(proba.sum(1), 1.0, rtol=1e-5)
    test = model.task.split["test"]
    right = predicted[test] == adata.obs["cell_type"].to_numpy()[test]
    assert right.mean() == pytest.approx(score["accuracy"])
    if model.config.model == "mean":
        assert len(set(predicted)) == 1
    else:
        assert score["accuracy"] > 0.8
        # The labels of the first cells were withheld.
        assert (predicted[:30] == adata.obs["cell_type"].to_numpy()[:30]).mean() > 0.7
        assert model.embed().shape == (300, 32)


def test_unlabelled_cells_are_in_no_part(model):
    assert min(nodes.min() for nodes in model.task.split.values()) >= 30
    assert sum(len(nodes) for nodes in model.task.split.values()) == 270


def test_a_saved_model_predicts_cells_without_labels(adata, model, tmp_path):
    model.save(tmp_path / "run")
    loaded = fimp.load(tmp_path / "run")
    assert loaded.evaluate() == model.evaluate()
    assert np.array_equal(loaded.predict(), model.predict())
    other = fimp.data.simulate.tissue(n_cells=40, n_genes=18, n_pairs=4, seed=7)
    del other.obs["cell_type"]
    elsewhere = fimp.load(tmp_path / "run", other)
    assert elsewhere.classes == model.classes
    assert np.array_equal(elsewhere.predict(), model.predict(other))


def test_labels_that_are_none_are_named(adata):
    with pytest.raises(FIMPError, match="nope"):
        fimp.CellTypeModel(adata, label="nope")
    one = adata.copy()
    one.obs["one"] = "neuron"
    with pytest.raises(FIMPError, match="one class"):
        fimp.CellTypeModel(one, label="one")
