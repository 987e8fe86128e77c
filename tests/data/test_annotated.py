import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from fimp.data.annotated import check_annotated, write_annotated
from fimp.errors import FIMPError

READ = {".h5ad": anndata.read_h5ad, ".zarr": anndata.read_zarr}


@pytest.fixture
def rich(small_adata):
    small_adata.layers["counts"] = small_adata.X
    small_adata.raw = small_adata.copy()
    small_adata.obs["type"] = ["a", "b", "c"] * 10
    small_adata.uns["note"] = "kept"
    return small_adata


@pytest.fixture
def added():
    return {"X_fimp": np.arange(60, dtype=np.float32).reshape(30, 2)}, {"told": pd.Categorical(["x", "y"] * 15)}


def write(adata, path):
    (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path)
    return path


@pytest.mark.parametrize("suffix", READ)
@pytest.mark.parametrize("to", READ)
def test_everything_is_kept_and_what_was_made_is_added(rich, added, tmp_path, suffix, to):
    source, out = write(rich, tmp_path / f"in{suffix}"), tmp_path / f"out{to}"
    before = [(path, path.stat().st_mtime_ns) for path in [source, *source.rglob("*")]]
    write_annotated(source, out, *added)
    found = READ[to](out)
    np.testing.assert_array_equal(found.obsm["X_fimp"], added[0]["X_fimp"])
    np.testing.assert_array_equal(found.obsm["spatial"], rich.obsm["spatial"])
    assert list(found.obs) == ["type", "told"]
    assert list(found.obs["told"]) == ["x", "y"] * 15
    for one, other in ((found.X, rich.X), (found.layers["counts"], rich.X), (found.raw.X, rich.X)):
        np.testing.assert_array_equal(one.toarray(), other.toarray())
    assert found.uns["note"] == "kept"
    assert [(path, path.stat().st_mtime_ns) for path in [source, *source.rglob("*")]] == before


@pytest.mark.parametrize("suffix", READ)
def test_what_is_there_already_is_replaced(small_adata, added, tmp_path, suffix):
    small_adata.obsm["X_fimp"], small_adata.obs["told"] = np.zeros((30, 5)), "old"
    out = tmp_path / f"out{suffix}"
    write_annotated(write(small_adata, tmp_path / f"in{suffix}"), out, *added)
    assert READ[suffix](out).obsm["X_fimp"].shape == (30, 2)
    assert list(READ[suffix](out).obs["told"]) == ["x", "y"] * 15


def test_a_file_without_obsm_gets_one(small_adata, added, tmp_path):
    source = write(small_adata, tmp_path / "in.h5ad")
    with h5py.File(source, "a") as file:
        del file["obsm"]
    write_annotated(source, tmp_path / "out.h5ad", *added)
    assert list(anndata.read_h5ad(tmp_path / "out.h5ad").obsm) == ["X_fimp"]


def test_another_kind_of_file_is_refused_where_it_does_not_fit_memory(rich, added, tmp_path, monkeypatch):
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", "1")
    source = write(rich, tmp_path / "in.zarr")
    for refused in (lambda out: check_annotated(source, out), lambda out: write_annotated(source, out, *added)):
        with pytest.raises(FIMPError, match=r"in.zarr does not fit memory.*name a \.zarr file"):
            refused(tmp_path / "out.h5ad")
    with pytest.raises(FIMPError, match=r"name an \.h5ad file"):
        check_annotated(write(rich, tmp_path / "in.h5ad"), tmp_path / "out.zarr")
    check_annotated(source, tmp_path / "out.zarr")
    assert not (tmp_path / "out.h5ad").exists()
    write_annotated(source, tmp_path / "out.zarr", *added)
    assert "X_fimp" in anndata.read_zarr(tmp_path / "out.zarr").obsm
