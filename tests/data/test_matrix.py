import anndata
import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from fimp.data.h5ad import close, read_h5ad
from fimp.data.matrix import median_total, normalize_counts, read_matrix, silence
from fimp.errors import FIMPError

FORMS = {
    "dense": np.asarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
}


def counts_of(adata):
    return np.asarray(adata.X.toarray())


def refused(adata, layer, *words):
    with pytest.raises(FIMPError) as caught:
        read_matrix(adata, layer, "tissue.h5ad")
    message = str(caught.value)
    assert message.startswith("tissue.h5ad: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backed", [False, True])
def test_every_way_of_storing_x_gives_the_same_sparse_counts(small_adata, tmp_path, form, backed):
    wanted = counts_of(small_adata)
    small_adata.X = FORMS[form](wanted)
    if backed:
        small_adata.write_h5ad(tmp_path / "x.h5ad")
        small_adata = read_h5ad(tmp_path / "x.h5ad")
    found = read_matrix(small_adata, None, "tissue.h5ad")
    assert isinstance(found.values, sparse.csr_matrix)
    assert found.values.dtype == np.float32
    assert found.values.has_canonical_format
    assert (found.values.data != 0).all()
    assert (found.is_counts, found.source, found.notes) == (True, "X", ())
    np.testing.assert_array_equal(found.values.toarray(), wanted)
    if backed:
        close(small_adata)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float64, bool])
def test_counts_are_known_by_their_values_whatever_their_type(kind):
    adata = anndata.AnnData(np.eye(12).astype(kind))
    found = read_matrix(adata, None, "tissue.h5ad")
    assert found.is_counts
    np.testing.assert_array_equal(found.values.toarray(), np.eye(12, dtype=np.float32))


def test_layers_and_raw_can_be_named(small_adata):
    small_adata.raw = small_adata.copy()
    small_adata.layers["twice"] = small_adata.X * 2
    for layer, source, factor in (("X", "X", 1), ("raw", "raw", 1), ("twice", "layers['twice']", 2)):
        found = read_matrix(small_adata, layer, "tissue.h5ad")
        assert found.source == source
        np.testing.assert_array_equal(found.values.toarray(), factor * counts_of(small_adata))


def test_an_unknown_layer_lists_what_there_is(small_adata):
    small_adata.layers["spliced"] = small_adata.X
    refused(small_adata, "unspliced", "'unspliced'", "X, spliced")
    refused(small_adata, "raw", "has no raw")


def test_a_counts_layer_is_preferred_to_an_x_that_is_no_counts(small_adata):
    wanted = counts_of(small_adata)
    small_adata.layers["counts"] = small_adata.X.copy()
    small_adata.X = np.log1p(wanted)
    found = read_matrix(small_adata, None, "tissue.h5ad")
    assert (found.source, found.is_counts) == ("layers['counts']", True)
    assert "X is not raw counts" in found.notes[0]
    np.testing.assert_array_equal(found.values.toarray(), wanted)


def test_counts_in_x_win_over_a_counts_layer(small_adata):
    small_adata.layers["counts"] = small_adata.X * 3
    assert read_matrix(small_adata, None, "tissue.h5ad").source == "X"


def test_a_counts_layer_that_holds_no_counts_is_not_preferred(small_adata):
    small_adata.layers["counts"] = np.log1p(counts_of(small_adata))
    small_adata.X = np.log1p(counts_of(small_adata))
    found = read_matrix(small_adata, None, "tissue.h5ad")
    assert (found.source, found.is_counts) == ("X", False)


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_scaled_x_uses_the_genes_of_raw_by_name(small_adata, tmp_path, backed, dense):
    # raw holds more genes than var, and in another order.
    if dense:
        small_adata.X = counts_of(small_adata)
    part = small_adata[:, ["gene7", "gene2"]].copy()
    part.raw = small_adata
    wanted = np.asarray(part.X if dense else part.X.toarray())
    part.X = (wanted - wanted.mean(0)) / wanted.std(0)
    if backed:
        part.write_h5ad(tmp_path / "raw.h5ad")
        part = read_h5ad(tmp_path / "raw.h5ad")
    found = read_matrix(part, None, "tissue.h5ad")
    assert (found.source, found.is_counts) == ("raw", True)
    assert "used raw" in found.notes[0]
    np.testing.assert_array_equal(found.values.toarray(), wanted)
    if backed:
        close(part)


def test_scaled_x_without_raw_is_continuous(small_adata):
    small_adata.X = counts_of(small_adata) - 1.3
    found = read_matrix(small_adata, None, "tissue.h5ad")
    assert not found.is_counts
    assert found.values.data.min() < 0


def test_negative_integers_are_refused_even_where_raw_would_do(small_adata):
    small_adata.raw = small_adata.copy()
    small_adata.X[3, 0] = -2
    refused(small_adata, None, "negative counts", "-2", "--layer")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whole", [True, False])
def test_nan_and_infinity_are_refused_with_the_first_cell(small_adata, bad, whole):
    if not whole:
        small_adata.X = np.log1p(counts_of(small_adata))
    small_adata.X = sparse.csr_matrix(small_adata.X).toarray()
    small_adata.X[[4, 9], 0] = bad
    refused(small_adata, None, "2 NaN or infinite", "cell 4")


def test_numbers_too_large_for_single_precision_are_refused_without_a_warning(small_adata, recwarn):
    small_adata.X = np.full(small_adata.shape, 1e300)
    refused(small_adata, None, "infinite")
    assert not recwarn.list


def test_an_all_zero_matrix_is_refused(small_adata):
    small_adata.X = sparse.csr_matrix(small_adata.shape, dtype=np.float32)
    refused(small_adata, None, "zero everywhere", "--layer")


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_no_cells_or_no_genes_are_refused(shape):
    refused(anndata.AnnData(np.zeros(shape, np.float32)), None, f"{shape[0]} cells and {shape[1]} genes")


def test_without_x_the_counts_layer_or_raw_is_used(small_adata, tmp_path):
    wanted = counts_of(small_adata)
    small_adata.layers["counts"] = small_adata.X
    small_adata.X = None
    small_adata.write_h5ad(tmp_path / "layers.h5ad")
    for adata in (small_adata, read_h5ad(tmp_path / "layers.h5ad")):
        found = read_matrix(adata, None, "tissue.h5ad")
        assert found.source == "layers['counts']"
        assert "X is empty" in found.notes[0]
        np.testing.assert_array_equal(found.values.toarray(), wanted)
        refused(adata, "X", "X is empty")
    small_adata.X = wanted
    small_adata.raw = small_adata.copy()
    del small_adata.layers["counts"]
    small_adata.X = None
    assert read_matrix(small_adata, None, "tissue.h5ad").source == "raw"


def test_without_x_and_anything_that_stands_in_the_layers_are_listed(small_adata):
    small_adata.layers["spliced"] = small_adata.X
    small_adata.X = None
    refused(small_adata, None, "X is empty", "--layer", "spliced")
    del small_adata.layers["spliced"]
    refused(small_adata, None, "X is empty")


def test_raw_that_lacks_genes_of_var_names_one(small_adata):
    raw = small_adata[:, :11].copy()
    small_adata.raw = raw
    refused(small_adata, "raw", "gene11", "--layer X")


def test_raw_with_duplicate_names_is_refused(small_adata):
    raw = small_adata.copy()
    raw.var_names = ["gene0", "gene1", "gene1", *raw.var_names[3:]]
    small_adata.raw = raw
    refused(small_adata, "raw", "duplicate", "gene1")


def damage(path, **parts):
    with h5py.File(path, "a") as file:
        for key, values in parts.items():
            del file["X"][key]
            if values is not None:
                file["X"][key] = values


@pytest.mark.parametrize(
    "parts",
    [{"indices": None}, {"indices": np.arange(3)}, {"indices": np.full(1, 10**6)}, {"indptr": np.zeros(2, np.int32)}],
    ids=["missing", "short", "outside", "rows"],
)
@pytest.mark.parametrize("form", ["csr", "csc"])
def test_damaged_sparse_files_are_refused_before_compiled_code_follows_them(small_adata, tmp_path, form, parts):
    small_adata.X = FORMS[form](small_adata.X)
    if parts.get("indices") is not None and len(parts["indices"]) == 1:
        parts = {"indices": np.full(small_adata.X.nnz, 10**6)}
    small_adata.write_h5ad(tmp_path / "x.h5ad")
    damage(tmp_path / "x.h5ad", **parts)
    adata = read_h5ad(tmp_path / "x.h5ad")
    refused(adata, None, "copy")
    close(adata)


def test_a_matrix_of_another_shape_than_the_tables_is_refused(small_adata, tmp_path):
    small_adata.write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "a") as file:
        del file["X"]
        file["X"] = np.ones((30, 40), np.float32)
    with pytest.raises(FIMPError, match=r"x\.h5ad: cannot be read as AnnData .*40.*12.*copy it again"):
        read_h5ad(tmp_path / "x.h5ad")


count_tables = hnp.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 8)), elements=st.integers(0, 50))


@given(count_tables)
def test_every_normalised_cell_sums_to_the_median_total(counts):
    total = counts.sum(axis=1)
    assume(total.any())
    values, scale = normalize_counts(sparse.csr_matrix(counts, dtype=np.float32))
    median = np.median(total[total > 0])
    sums = np.expm1(values.toarray().astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(sums, np.where(total > 0, median, 0), rtol=1e-5)
    np.testing.assert_array_equal(scale == 0, total == 0)
    # The factors undo it: what comes back are the counts.
    undone = np.expm1(values.toarray().astype(np.float64)) / np.where(scale > 0, scale, 1)[:, None]
    np.testing.assert_allclose(undone, counts, rtol=1e-4, atol=1e-6)


def test_normalisation_leaves_its_input_alone():
    counts = sparse.csr_matrix(np.array([[1.0, 2.0], [0.0, 4.0]], np.float32))
    values, _ = normalize_counts(counts)
    assert values.dtype == np.float32
    assert counts.toarray().tolist() == [[1.0, 2.0], [0.0, 4.0]]
    np.testing.assert_allclose(values.toarray(), np.log1p([[3.5 / 3, 7 / 3], [0, 3.5]]), rtol=1e-6)


def test_counts_are_scaled_to_a_given_total_with_given_totals():
    counts = sparse.csr_matrix(np.array([[1.0, 2.0], [0.0, 4.0], [0.0, 0.0]], np.float32))
    assert median_total(counts) == 3.5
    assert median_total(counts[2:]) == 0.0
    values, scale = normalize_counts(counts, 20.0, np.array([10.0, 4.0, 5.0]))
    np.testing.assert_allclose(scale, [2, 5, 4])
    np.testing.assert_allclose(values.toarray(), np.log1p([[2, 4], [0, 20], [0, 0]]), rtol=1e-6)
    np.testing.assert_allclose(normalize_counts(counts, 7.0)[1], [7 / 3, 7 / 4, 0])


def test_a_reader_of_other_values_does_not_look_for_counts(small_adata):
    small_adata.layers["counts"] = small_adata.X
    small_adata.X = np.log1p(small_adata.X.toarray())
    assert read_matrix(small_adata, None, "x").source == "layers['counts']"
    assert read_matrix(small_adata, None, "x", prefer_counts=False).source == "X"


def test_cells_of_few_counts_are_silenced_and_no_others():
    counts = sparse.csr_matrix(np.array([[9.0, 0.0], [4.0, 6.0], [0.0, 0.0], [1.0, 2.0]]))
    out, few = silence(counts, 10)
    assert few == 2
    assert out.toarray().tolist() == [[0, 0], [4, 6], [0, 0], [0, 0]]
    assert out.nnz == 2
    assert counts.nnz == 5
    # Where genes are missing, the totals that they are part of decide.
    assert silence(counts, 10, np.array([50.0, 10.0, 0.0, 10.0]))[1] == 0
    assert silence(counts, 0)[1] == 0
