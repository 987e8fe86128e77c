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


def test_predict_on_other_cells_needs_the_same_genes(adata):
    model = fimp.ExpressionModel(adata, model="mlp", dim=16).fit(max_epochs=1)
    other = fimp.data.simulate.tissue(n_cells=50, n_genes=18, n_pairs=4, seed=9)
    assert model.predict(other).shape == (50, 18)
    with pytest.raises(FIMPError, match="its genes differ"):
        model.predict(other[:, ::-1].copy())


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
