"""Real tissues, where they lie beside the checkout."""

from pathlib import Path

import anndata
import numpy as np
import pytest

import fimp

FILES = sorted((Path(__file__).parents[2] / "shared" / "data" / "spatial").glob("*.h5ad"))


@pytest.mark.skipif(not FILES, reason="shared data are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_tissue_is_read_as_what_it_is(path):
    adata = anndata.read_h5ad(path)
    data = fimp.data.load_cells(path, fimp.data.CellOptions(genes=adata.n_vars))
    assert data.num_nodes == adata.n_obs
    assert data.gene_names == list(adata.var_names)
    assert (data.scale is not None) == bool(adata.uns["x_is_raw_counts"])
    assert data.edge_index.size(1) == 8 * adata.n_obs
    assert np.array_equal(data.pos.numpy(), adata.obsm["spatial"])
    if data.scale is not None:
        total = np.expm1(data.x.to_dense().numpy().astype(np.float64)).sum(1)
        assert total == pytest.approx(np.full(len(total), np.median(np.asarray(adata.X.sum(1)))), rel=1e-4)


@pytest.mark.skipif(not FILES, reason="shared data are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_little_training_beats_the_mean(path):
    models = {name: fimp.ExpressionModel(path, model=name) for name in ("mean", "gcn")}
    # Ten epochs of a few hundred spots are ten steps.
    epochs = max(10, 40 * 256 // models["mean"].data.num_nodes)
    r2 = {name: model.fit(max_epochs=epochs).evaluate()["r2"] for name, model in models.items()}
    assert r2["gcn"] > r2["mean"] + 0.01
    assert np.isfinite(r2["mean"])
