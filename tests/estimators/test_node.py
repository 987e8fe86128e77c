import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import fimp
from fimp.errors import FIMPError

OPTIONS = {"undirected": True, "dim": 16, "lr": 1e-2, "batch_size": 32, "patience": 40}


def graph(count=90, seed=0, features=12, dense=False):
    """A ring of three classes that a feature tells; the last features are noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) * 3 // count
    x = torch.nn.functional.one_hot(y, features).float()
    x[:, 3:] = (torch.rand(count, features - 3, generator=generator) < 0.3).float()
    if dense:
        x = x + 0.01 * torch.randn(x.shape, generator=generator)
    return Data(x=x, y=y, edge_index=torch.stack([torch.arange(count), torch.arange(count).roll(1)]))


@pytest.fixture(scope="module", params=["gcn", "fimp-base"])
def model(request):
    return fimp.NodeModel(graph(), model=request.param, **OPTIONS).fit(max_epochs=40)


def test_the_notebook_interface(model):
    score = model.evaluate()
    predicted, proba = model.predict(), model.predict_proba()
    np.testing.assert_allclose(proba.sum(1), 1.0, rtol=1e-5)
    test = model.task.split["test"]
    assert (predicted == model.data.y.numpy())[test].mean() == pytest.approx(score["accuracy"])
    assert score["accuracy"] > 0.8
    assert model.embed().shape == (90, 16)
    assert "90 nodes, 12 features, 180 edges" in repr(model)


def test_a_saved_model_predicts_another_graph_without_labels(model, tmp_path):
    model.save(tmp_path / "run")
    loaded = fimp.load(tmp_path / "run")
    assert loaded.evaluate() == model.evaluate()
    assert np.array_equal(loaded.embed(), model.embed())
    other = graph(60, seed=1)
    truth = other.y.numpy()
    del other.y
    elsewhere = fimp.load(tmp_path / "run", other)
    assert np.array_equal(elsewhere.predict(), model.predict(other))
    assert (elsewhere.predict() == truth).mean() > 0.8
    assert any("60 nodes have no label" in note for note in elsewhere.notes)


@pytest.mark.parametrize("other_is_dense", [False, True])
def test_another_graph_is_read_with_the_tokenizer_of_training(other_is_dense, tmp_path):
    model = fimp.NodeModel(graph(dense=not other_is_dense), model="mlp", tokens=4, **OPTIONS)
    other = graph(40, dense=other_is_dense)
    assert (model.task_on(other).sampler is None) == (model.task.sampler is None)
    assert np.isfinite(model.embed(other)).all()


def test_classes_that_the_model_does_not_know_are_no_labels(model):
    other = graph(40)
    other.y[:5] = 7
    assert model.task_on(other).data.y[:5].tolist() == [-1] * 5
    assert model.predict(other).max() <= 2


def test_other_features_are_refused(model):
    with pytest.raises(FIMPError, match="has 9 features, but the model was trained on 12"):
        model.predict(graph(features=9))
