import h5py
import numpy as np
import pytest

from fimp.data.h5ad import close, read_h5ad
from fimp.errors import FIMPError


def refused(path, *words):
    with pytest.raises(FIMPError) as caught:
        read_h5ad(path)
    message = str(caught.value)
    assert str(path)[:50] in message
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.fixture
def stored(small_adata, tmp_path):
    path = tmp_path / "tissue.h5ad"
    small_adata.write_h5ad(path)
    return path


def test_matrices_stay_on_disk(small_adata, tmp_path):
    small_adata.layers["counts"] = small_adata.X.toarray()
    small_adata.raw = small_adata.copy()
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    adata = read_h5ad(str(tmp_path / "tissue.h5ad"))
    assert adata.shape == small_adata.shape
    for stored in (adata.X, adata.raw.X):
        np.testing.assert_array_equal(stored.to_memory().toarray(), small_adata.X.toarray())
    layer = adata.layers["counts"]
    assert isinstance(layer, h5py.Dataset)
    np.testing.assert_array_equal(adata.to_memory().layers["counts"], small_adata.X.toarray())
    close(adata)
    assert not layer


def test_files_of_old_versions_are_opened_in_the_way_of_anndata(stored, small_adata):
    with h5py.File(stored, "a") as file:
        del file.attrs["encoding-type"]
    adata = read_h5ad(stored)
    assert adata.isbacked
    np.testing.assert_array_equal(adata.X[:].toarray(), small_adata.X.toarray())
    close(adata)
    assert not adata.file.is_open


def test_a_missing_file_names_the_remedy(tmp_path):
    refused(tmp_path / "none.h5ad", "no such file", "fimp data list")


def test_a_directory_is_refused(tmp_path):
    refused(tmp_path, "is a directory", "pass an .h5ad file")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.h5ad").touch()
    refused(tmp_path / "empty.h5ad", "empty")


def test_text_under_the_name_of_an_h5ad_is_refused(tmp_path):
    (tmp_path / "text.h5ad").write_text("gene,cell\n" * 100)
    refused(tmp_path / "text.h5ad", "not an HDF5 file")


def test_hdf5_without_an_anndata_says_what_is_missing(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["signal"] = np.zeros(3)
        file.create_group("obs")
    refused(tmp_path / "other.h5", "X, var missing")


@pytest.mark.parametrize("share", [0.0005, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_wherever_it_ends(stored, share):
    content = stored.read_bytes()
    stored.write_bytes(content[: max(1, int(share * len(content)))])
    refused(stored, "copy")


def test_a_name_longer_than_the_file_system_allows_is_refused():
    refused("a" * 400, "too long")


def test_damaged_tables_are_refused(stored):
    with h5py.File(stored, "a") as file:
        table = file["obs"].attrs
        table["_index"] = "none"
    refused(stored, "cannot be read as AnnData")


def test_an_element_of_an_unknown_kind_is_refused(stored):
    # anndata raises an error type of its own here, which is no ValueError.
    with h5py.File(stored, "a") as file:
        file["obsm/spatial"].attrs["encoding-type"] = "from the future"
    refused(stored, "cannot be read as AnnData")


def test_a_file_without_x_opens_where_layers_can_stand_in(small_adata, tmp_path):
    small_adata.layers["counts"] = small_adata.X
    small_adata.X = None
    small_adata.write_h5ad(tmp_path / "layers.h5ad")
    adata = read_h5ad(tmp_path / "layers.h5ad")
    assert list(adata.layers) == ["counts"]
    adata.file.close()
