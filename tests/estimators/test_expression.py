import numpy as np
import pytest
from scipy import sparse

import fimp
from fimp.errors import FIMPError


@pytest.fixture(scope="module")
def adata():
    return fimp.data.simulate.tissue(n_cells=120, n_genes=18, n_pairs=4)


@pytest.fixture(scope="module", params=["mean", "gcn", "fimp-base"])
def model(request, adata):
    return fimp.ExpressionModel(adata, model=request.param, seed=0, dim=16, batch_size=64).fit(max_epochs=2)


def test_the_notebook_interface(adata, model):
    score = model.evaluate()
    assert set(score) == {"mse", "r2", "r2_gene"}
    adata.layers["fimp_expression"] = model.predict()
    assert np.isfinite(adata.layers["fimp_expression"]).all()
    if model.config.model == "mean":
        with pytest.raises(FIMPError, match="no states"):
            model.embed()
    else:
        adata.obsm["X_fimp"] = model.embed()
        assert np.isfinite(adata.obsm["X_fimp"]).all()
        assert adata.obsm["X_fimp"].shape == (120, 16)
    assert "120 cells, 18 genes" in repr(model)


def test_some_of_its_own_cells_are_embedded_as_all_are(model):
    if model.config.model == "mean":
        with pytest.raises(FIMPError, match="no states"):
            model.embed_nodes(np.array([0]))
        return
    nodes = np.array([3, 20, 21, len(model.embed()) - 1])
    np.testing.assert_allclose(model.embed_nodes(nodes), model.embed()[nodes], atol=1e-5)


def test_a_saved_model_comes_back_with_its_data(adata, model, tmp_path):
    model.save(tmp_path / "run")
    loaded = fimp.load(tmp_path / "run")
    assert loaded.evaluate() == model.evaluate()
    assert np.array_equal(loaded.predict(), model.predict())
    assert repr(loaded) == repr(model)
    assert np.array_equal(fimp.load(tmp_path / "run", adata).predict(), model.predict())
    assert not [p for p in (tmp_path / "run").rglob("*") if p.suffix in {".pt", ".pkl", ".ckpt"}]


def test_continuous_values_and_missing_coordinates_survive_saving(tmp_path):
    adata = fimp.data.simulate.tissue(n_cells=60, n_genes=10, n_pairs=2)
    adata.X = sparse.csr_matrix(adata.X * 0.37)
    del adata.obsm["spatial"]
    model = fimp.ExpressionModel(adata, model="gcn", dim=8).fit(max_epochs=1)
    model.save(tmp_path / "run")
    assert np.array_equal(fimp.load(tmp_path / "run").predict(), model.predict())


def test_a_genes_own_value_is_never_used_to_predict_it(adata):
    model = fimp.ExpressionModel(adata, model="fimp-base", dim=16).fit(max_epochs=2)
    before = model.predict()
    sampler = model.task.sampler
    cell, gene = 5, int(sampler.values[5].indices[3])
    place = sampler.values.indptr[cell] + int(np.flatnonzero(sampler.values[cell].indices == gene)[0])
    sampler.values.data[place] += 3.0
    after = model.predict()
    sampler.values.data[place] -= 3.0
    assert after[cell, gene] == before[cell, gene]
    assert (after[cell] != before[cell]).any()


@pytest.mark.parametrize("name", ["gcn", "fimp-base"])
def test_other_cells_are_read_by_gene_name(adata, name):
    model = fimp.ExpressionModel(adata, model=name, dim=16).fit(max_epochs=1)
    other = fimp.data.simulate.tissue(n_cells=50, n_genes=18, n_pairs=4, seed=9)
    predicted, embedded = model.predict(other), model.embed(other)
    assert predicted.shape == (50, 18)
    # Order of genes, and genes that the model does not know, change nothing but the total of a cell.
    moved = other[:, ::-1].copy()
    np.testing.assert_allclose(model.predict(moved), predicted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.embed(moved), embedded, rtol=1e-5, atol=1e-6)
    fewer = other[:, 4:].copy()
    assert model.predict(fewer).shape == (50, 18)
    assert any("4 of the model's 18" in note for note in model.task_on(fewer).data.notes), model.task_on(
        fewer
    ).data.notes
    assert model.predict(other[:1].copy()).shape == (1, 18)
    other.var_names = [f"unknown{index}" for index in range(18)]
    with pytest.raises(FIMPError, match="none of"):
        model.predict(other)


def test_a_model_predicts_its_own_cells_alike_when_they_are_handed_over(adata, model):
    assert np.array_equal(model.predict(adata), model.predict())


def test_other_cells_are_scaled_to_the_total_that_the_model_knows(adata):
    model = fimp.ExpressionModel(adata, model="mlp", dim=16).fit(max_epochs=1)
    deeper = adata.copy()
    deeper.X = deeper.X * 7
    np.testing.assert_allclose(model.predict(deeper), model.predict(), rtol=1e-4, atol=1e-5)


def test_a_model_loaded_for_other_cells_does_not_need_those_it_was_trained_on(tmp_path):
    file = tmp_path / "tissue.h5ad"
    fimp.data.simulate.tissue(n_cells=60, n_genes=18, n_pairs=4).write_h5ad(file)
    model = fimp.ExpressionModel(file, model="gcn", dim=16).fit(max_epochs=1)
    model.save(tmp_path / "run")
    file.unlink()
    other = fimp.data.simulate.tissue(n_cells=50, n_genes=18, n_pairs=4, seed=9)
    loaded = fimp.load(tmp_path / "run", other)
    assert np.array_equal(loaded.predict(), model.predict(other))
    with pytest.raises(FIMPError, match="part 'test'"):
        loaded.evaluate()
    with pytest.raises(FIMPError, match="loaded for"):
        loaded.fit()
    with pytest.raises(FIMPError, match="no such file"):
        fimp.load(tmp_path / "run")


def test_sections_can_be_held_out(adata):
    adata = adata.copy()
    adata.obs["slice"] = ["a"] * 80 + ["b"] * 40
    model = fimp.ExpressionModel(adata, model="gcn", dim=16, test_section=("b",), epochs=1).fit()
    assert model.task.split["test"].tolist() == list(range(80, 120))
    assert np.isfinite(model.evaluate()["r2"])
    del adata.obs["slice"]
    assert model.predict(adata[80:].copy()).shape == (40, 18)


def test_a_budget_ends_training(adata):
    model = fimp.ExpressionModel(adata, model="mlp", dim=16, epochs=100_000, patience=10**6)
    model.fit(max_minutes=0.02)
    assert 0 < model.config.steps < 100_000


def test_zeros_make_imputation_possible(adata):
    model = fimp.ExpressionModel(adata, model="mlp", zeros=0.5, tokens=16, lr=3e-3).fit(max_epochs=40)
    predicted, counts = model.predict(), adata.X.toarray()
    expressed = fimp.ExpressionModel(adata, model="mlp", tokens=16, lr=3e-3).fit(max_epochs=40).predict()
    assert predicted[counts == 0].mean() < expressed[counts == 0].mean()


def test_bad_options_and_folders_are_named(adata, tmp_path):
    with pytest.raises(FIMPError, match="'depth' is unknown"):
        fimp.ExpressionModel(adata, depth=3)
    for option, value in (
        *(("dim", 0), ("layers", 0), ("heads", 1.5), ("dropout", 1.0), ("attention_dropout", -0.1)),
        *(("lr", -1.0), ("lr", float("nan")), ("weight_decay", -1.0), ("seed", -1), ("seed", 0.5)),
    ):
        with pytest.raises(FIMPError, match=f"{option}={value}"):
            fimp.ExpressionModel(adata, **{option: value})
    for other in (None, 5, adata.to_df()):
        with pytest.raises(FIMPError, match=f"a {type(other).__name__} is no AnnData"):
            fimp.ExpressionModel(other)
    with pytest.raises(FIMPError, match="max_minutes=-1"):
        fimp.ExpressionModel(adata, model="mlp").fit(max_minutes=-1)
    with pytest.raises(FIMPError, match="'nope' is unknown"):
        fimp.ExpressionModel(adata, model="nope")
    with pytest.raises(FIMPError, match=r"config\.yaml is missing"):
        fimp.load(tmp_path)
    (tmp_path / "config.yaml").write_text("task: [1, 2\n")
    with pytest.raises(FIMPError, match="does not describe a run"):
        fimp.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FIMPError, match="is a file"):
        fimp.ExpressionModel(adata, model="mlp").save(tmp_path / "file")
    with pytest.raises(FIMPError, match="part 'all'"):
        fimp.ExpressionModel(adata, model="mlp").evaluate("all")
