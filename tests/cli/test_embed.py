import anndata
import numpy as np
import pytest

import fimp


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    fimp.data.simulate.tissue(n_cells=80, n_genes=18, n_pairs=4).write_h5ad(folder / "train.h5ad")
    common = {"dim": 16, "epochs": 2, "batch_size": 32}
    fimp.ExpressionModel(folder / "train.h5ad", **common).fit().save(folder / "expression")
    fimp.CellTypeModel(folder / "train.h5ad", label="cell_type", model="gcn", **common).fit().save(folder / "celltype")
    fimp.ExpressionModel(folder / "train.h5ad", model="mean").save(folder / "mean")
    (folder / "train.h5ad").unlink()
    return folder


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "other.h5ad"
    adata = fimp.data.simulate.tissue(n_cells=50, n_genes=18, n_pairs=4, seed=5)
    adata.layers["kept"] = adata.X
    adata[:, 3:].copy().write_h5ad(path)
    return path


@pytest.mark.parametrize("task", ["expression", "celltype"])
def test_cells_of_another_file_are_embedded(run_cli, runs, tissue, tmp_path, task):
    out = tmp_path / "out.h5ad"
    before = tissue.read_bytes()
    code, text, err = run_cli("embed", runs / task, "--data", tissue, "--out", out)
    assert (code, err) == (0, "")
    assert "3 of the model's 18" in text
    adata = anndata.read_h5ad(out)
    assert adata.obsm["X_fimp"].shape == (50, 16)
    assert np.isfinite(adata.obsm["X_fimp"]).all()
    assert np.array_equal(adata.obsm["X_fimp"], fimp.load(runs / task, tissue).embed())
    assert "kept" in adata.layers
    assert ("fimp_prediction" in adata.obs) == (task == "celltype")
    assert tissue.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5ad"]


@pytest.mark.parametrize(
    ("run", "data", "out", "message"),
    [
        ("nothing", "other", "o.h5ad", "config.yaml is missing"),
        ("expression", "nowhere.h5ad", "o.h5ad", "nowhere.h5ad: no such file"),
        ("expression", "other", "o.csv", "does not end in .h5ad"),
        ("expression", "other", "nowhere/o.h5ad", "is no folder"),
        ("mean", "other", "o.h5ad", "has no states"),
    ],
)
def test_what_cannot_be_embedded_is_refused(run_cli, runs, tissue, tmp_path, run, data, out, message):
    source = tissue if data == "other" else data
    code, _, err = run_cli("embed", runs / run, "--data", source, "--out", tmp_path / out)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten(run_cli, runs, tissue, tmp_path):
    (tmp_path / "o.h5ad").write_text("mine")
    code, _, err = run_cli("embed", runs / "expression", "--data", tissue, "--out", tmp_path / "o.h5ad")
    assert code == 2
    assert "exists" in err
    assert (tmp_path / "o.h5ad").read_text() == "mine"
