import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from fimp.data import stored as module
from fimp.data.disk_matrix import DiskMatrix
from fimp.data.h5ad import close, read_h5ad
from fimp.data.stored import read_stored, to_csr
from fimp.data.zarr_store import read_zarr
from fimp.errors import FIMPError

FORMS = {"dense": np.asarray, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Nothing fits memory, and blocks are of a few entries."""
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", "1")
    for name in ("fimp.data.disk_matrix.ENTRIES", "fimp.data.stored.ENTRIES", "fimp.data.stored._BLOCK"):
        monkeypatch.setattr(name, 50)


def write(adata, path):
    (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path)
    return path


def read(path):
    return read_zarr(path) if path.suffix == ".zarr" else read_h5ad(path)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_every_layout_gives_the_same_rows_on_disk_and_in_memory(tmp_path, suffix, form, kind):
    generator = np.random.default_rng(0)
    table = (generator.poisson(0.7, (47, 13)) * 1.1).astype(kind)
    table[[0, 20, 46]] = 0
    adata = read(write(anndata.AnnData(FORMS[form](table)), tmp_path / f"x{suffix}"))
    found, wanted = read_stored(adata.X, "x"), to_csr(adata.X, "x")
    close(adata)
    # The store is not needed any more.
    assert isinstance(found, DiskMatrix)
    rows = found[np.arange(47)]
    assert rows.dtype == np.float32
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(rows, part), getattr(wanted, part))


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_repeated_and_stored_zero_entries_are_put_right(tmp_path, form):
    path = write(anndata.AnnData(FORMS[form](np.zeros((4, 4), np.float32))), tmp_path / "x.h5ad")
    with h5py.File(path, "a") as file:
        for key, values in (("data", [1.0, 2.0, 0.0, 5.0]), ("indices", [3, 3, 0, 2]), ("indptr", [0, 3, 3, 4, 4])):
            del file["X"][key]
            file["X"][key] = np.array(values, np.float32 if key == "data" else np.int32)
    adata = read_h5ad(path)
    found, wanted = read_stored(adata.X, "x"), to_csr(adata.X, "x")
    close(adata)
    assert found.nnz == wanted.nnz == 2
    np.testing.assert_array_equal(found[np.arange(4)].toarray(), wanted.toarray())


def test_what_is_in_memory_or_fits_stays_in_memory(small_adata, tmp_path, monkeypatch):
    assert sparse.issparse(read_stored(small_adata.X, "x"))
    adata = read_h5ad(write(small_adata, tmp_path / "x.h5ad"))
    size = module._BYTES * small_adata.X.nnz
    for budget, kind in ((size, sparse.csr_matrix), (size - 1, DiskMatrix)):
        monkeypatch.setenv("FIMP_MEMORY_BUDGET", str(budget))
        assert isinstance(read_stored(adata.X, "x"), kind)
    close(adata)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ({"indices": None}, "copy"),
        ({"data": None}, "copy"),
        ({"indices": np.arange(3)}, "damaged"),
        ({"indices": 10**6}, "damaged"),
        ({"indices": -1}, "damaged"),
        ({"indptr": np.zeros(2, np.int32)}, "damaged"),
        ({"indptr": "down"}, "damaged"),
    ],
)
@pytest.mark.parametrize("form", ["csr", "csc"])
def test_damaged_sparse_files_are_refused_before_compiled_code_follows_them(small_adata, tmp_path, form, parts, word):
    small_adata.X = FORMS[form](small_adata.X)
    path = write(small_adata, tmp_path / "x.h5ad")
    with h5py.File(path, "a") as file:
        for key, values in parts.items():
            stored = file["X"][key][:]
            del file["X"][key]
            if isinstance(values, int):
                values = np.full_like(stored, values)
            if isinstance(values, str):
                values = np.append(stored[:-1][::-1], stored[-1])
            if values is not None:
                file["X"][key] = values
    # Without its data it is not even opened.
    with pytest.raises(FIMPError, match=word) as caught:
        read_stored(read_h5ad(path).X, "x")
    assert str(caught.value).startswith(f"{path}: cannot be read" if "data" in parts else "x: its matrix")
    assert "\n" not in str(caught.value)


def test_text_and_complex_numbers_are_no_matrix(tmp_path):
    for values in (np.full((3, 2), "a", dtype=object), np.full((3, 2), b"a"), np.ones((3, 2), complex)):
        with pytest.raises(FIMPError, match="x: its matrix is not numeric"):
            to_csr(values, "x")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for key, values in (("text", np.full((3, 2), b"a")), ("complex", np.ones((3, 2), complex))):
            file[key] = values
            with pytest.raises(FIMPError, match="x: its matrix is not numeric"):
                read_stored(file[key], "x")


def test_the_input_is_never_changed(small_adata):
    stored = sparse.csr_matrix(([0.0, 2.0], ([0, 1], [0, 1])), shape=(2, 2), dtype=np.float32)
    found = to_csr(stored, "x")
    found.data[:] = 9
    assert stored.data.tolist() == [0.0, 2.0]


def test_a_dense_file_is_read_in_blocks_and_never_as_a_whole(tmp_path, monkeypatch):
    values = np.random.default_rng(0).poisson(0.5, (50, 7)).astype(np.float32)
    with h5py.File(tmp_path / "dense.h5", "w") as file:
        file["X"] = values
    monkeypatch.setattr(module, "_BLOCK", 70)

    class Watched:
        """A dataset that notes how much is asked for at once."""

        def __init__(self, dataset):
            self.dataset, self.shape, self.dtype, self.most = dataset, dataset.shape, dataset.dtype, 0

        def __getitem__(self, where):
            part = self.dataset[where]
            self.most = max(self.most, part.size)
            return part

        def __array__(self, *_, **__):
            raise AssertionError("the whole matrix was made dense")

    with h5py.File(tmp_path / "dense.h5", "r") as file:
        watched = Watched(file["X"])
        np.testing.assert_array_equal(to_csr(watched, "x").toarray(), values)
    assert 0 < watched.most <= 70


def test_stored_zeros_and_repeated_entries_are_merged():
    entries = ([1.0, 2.0, 0.0], ([0, 0, 1], [2, 2, 0]))
    found = to_csr(sparse.coo_matrix(entries, shape=(2, 3)), "x")
    assert found.nnz == 1
    assert found[0, 2] == 3.0


@pytest.mark.parametrize("stored_in", ["memory", "file"])
@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_read(tmp_path, form, stored_in):
    table = np.random.default_rng(0).poisson(0.7, (47, 13)).astype(np.float16)
    stored = table
    if form != "dense":
        stored = FORMS[form](table.astype(np.float32))
        # SciPy makes no such matrix, but lets data be exchanged.
        stored.data = stored.data.astype(np.float16)
    if stored_in == "memory":
        found = to_csr(stored, "x")
        assert stored.dtype == np.float16
    else:
        path = write(anndata.AnnData(FORMS[form](table.astype(np.float32))), tmp_path / "x.h5ad")
        key = "X" if form == "dense" else "X/data"
        with h5py.File(path, "a") as file:
            attributes = dict(file[key].attrs)
            del file[key]
            file[key] = table if form == "dense" else stored.data
            file[key].attrs.update(attributes)
        adata = read(path)
        found = to_csr(adata.X, "x")
        np.testing.assert_array_equal(read_stored(adata.X, "x")[np.arange(47)].toarray(), table)
        close(adata)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.toarray(), table)
