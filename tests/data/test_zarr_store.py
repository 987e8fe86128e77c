import anndata
import numpy as np
import pytest
import zarr

from fimp.data.zarr_store import is_zarr, read_zarr
from fimp.errors import FIMPError


@pytest.fixture
def store(small_adata, tmp_path):
    small_adata.layers["counts"] = small_adata.X.toarray()
    small_adata.raw = small_adata.copy()
    small_adata.obs["type"] = ["a", "b", "c"] * 10
    small_adata.write_zarr(tmp_path / "tissue.zarr")
    return tmp_path / "tissue.zarr"


def refused(path, *words):
    with pytest.raises(FIMPError) as caught:
        read_zarr(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("version", [2, 3])
def test_matrices_stay_in_the_store_and_tables_are_read(small_adata, tmp_path, version):
    small_adata.layers["counts"] = small_adata.X.toarray()
    small_adata.raw = small_adata.copy()
    path = tmp_path / "folder"
    with anndata.settings.override(zarr_write_format=version):
        small_adata.write_zarr(path)
    assert is_zarr(path)
    adata = read_zarr(path)
    assert list(adata.obs_names) == list(small_adata.obs_names)
    np.testing.assert_array_equal(adata.obsm["spatial"], small_adata.obsm["spatial"])
    assert isinstance(adata.layers["counts"], zarr.Array)
    for stored in (adata.X, adata.raw.X):
        assert hasattr(stored, "to_memory")
        np.testing.assert_array_equal(stored.to_memory().toarray(), small_adata.X.toarray())


def test_what_is_a_zarr_store_is_known_by_its_name_or_its_files(store, tmp_path):
    assert is_zarr(store)
    assert is_zarr("nothing.zarr")
    assert not is_zarr(tmp_path)
    assert not is_zarr("tissue.h5ad")


def test_stores_that_cannot_be_used_are_refused(store, tmp_path):
    refused(tmp_path / "none.zarr", "no such folder", ".h5ad")
    (tmp_path / "file.zarr").write_text("nothing")
    refused(tmp_path / "file.zarr", "is a file")
    (tmp_path / "empty.zarr").mkdir()
    refused(tmp_path / "empty.zarr", "cannot be read", "copy")
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w").create_group("obs")
    refused(tmp_path / "other.zarr", "no AnnData", "X, var missing", "write_zarr")


def test_damage_inside_is_refused(store):
    (store / "var" / "_index" / "0").write_bytes(b"nothing")
    refused(store, "cannot be read as AnnData", "damaged")


@pytest.mark.parametrize("key", ["X", "raw/X"])
def test_missing_parts_of_matrices_are_no_zeros(store, key):
    (store / key / "data" / "0").unlink()
    refused(store, f"1 of 1 chunks of {key} are missing", "copy")


def test_a_store_of_another_kind_of_element_is_refused(store):
    group = zarr.open_group(str(store), mode="r+", use_consolidated=False)
    group["obsm/spatial"].attrs["encoding-type"] = "from the future"
    zarr.consolidate_metadata(group.store)
    refused(store, "cannot be read as AnnData")
