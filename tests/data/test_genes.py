import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from fimp.data.cells import CellOptions, load_cells
from fimp.data.genes import match_genes, most_variable, shared_genes, take_genes
from fimp.data.simulate import tissue
from fimp.errors import FIMPError

tables = hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 10)), elements=st.integers(0, 4))


def csr(values):
    return sparse.csr_matrix(np.asarray(values, np.float32))


@given(tables, st.integers(1, 12))
def test_the_genes_kept_vary_most_and_keep_their_order(values, count):
    kept = most_variable(csr(values), count)
    assert len(kept) == min(count, values.shape[1])
    assert (np.diff(kept) > 0).all()
    variance = values.astype(np.float64).var(axis=0)
    others = np.setdiff1d(np.arange(values.shape[1]), kept)
    if len(others):
        assert variance[kept].min() >= variance[others].max() - 1e-12
        # A gene that no cell expresses is kept only where no other is left.
        silent = (values == 0).all(axis=0)
        assert not silent[kept].any() or silent[others].all()
    np.testing.assert_array_equal(kept, most_variable(csr(values), count))


def test_ties_go_to_the_first_and_constant_genes_come_before_silent_ones():
    assert most_variable(csr([[1, 0, 1, 0], [0, 1, 0, 1]]), 2).tolist() == [0, 1]
    assert most_variable(csr([[0, 7, 0, 1], [0, 7, 0, 0]]), 2).tolist() == [1, 3]


def test_small_variances_of_large_values_are_not_lost():
    values = np.array([[10000.0, 0.01], [10000.0, 0.0], [10000.0, 0.0]])
    assert most_variable(csr(values), 1).tolist() == [1]


def test_selection_follows_normalisation_over_all_genes():
    adata = tissue(60, 20, 2, 3)
    whole, some = load_cells(adata), load_cells(adata, CellOptions(genes=7))
    values = whole.x.to_dense().numpy()
    best = np.sort(np.argsort(-values.astype(np.float64).var(axis=0), kind="stable")[:7])
    assert some.gene_names == [whole.gene_names[index] for index in best]
    np.testing.assert_array_equal(some.x.to_dense().numpy(), values[:, best])
    np.testing.assert_array_equal(some.scale, whole.scale)
    assert some.target_total == whole.target_total == np.median(np.asarray(adata.X.sum(1)))
    assert "genes: kept the 7 most variable of 20" in some.notes
    assert not [note for note in whole.notes if note.startswith("genes")]


def test_shared_genes_are_in_the_order_of_the_first_file():
    assert shared_genes([["c", "a", "b"], ["b", "x", "c"], ["c", "b"]], "123") == (
        ["c", "b"],
        ["kept the 2 genes that all 3 files have, of 3, 3, 2"],
    )
    assert shared_genes([["a", "b"], ["b", "a"]], "12") == (["a", "b"], [])


@pytest.mark.parametrize(("second", "count"), [(["x", "y"], 0), (["a", "y"], 1)])
def test_files_that_share_fewer_than_two_genes_are_refused(second, count):
    with pytest.raises(FIMPError, match=rf"one\.h5ad and two\.h5ad: {count} genes are in both .*a, b.*y"):
        shared_genes([["a", "b"], second], ["one.h5ad", "two.h5ad"])


def test_genes_are_matched_exactly_where_half_are_found():
    found, notes = match_genes(["b", "X", "a"], ["a", "b", "x"], "new.h5ad")
    assert found.tolist() == [2, 0, -1]
    assert notes == [
        "genes: 1 of the model's 3 are not in the file and taken as not expressed (x)",
        "genes: 1 that the model does not know are dropped",
    ]
    assert match_genes(["b", "a"], ["a", "b"], "new.h5ad")[1] == []


@pytest.mark.parametrize(
    ("have", "wanted", "found"),
    [
        (["ACTB", "GAPDH"], ["Actb", "Gapdh"], [0, 1]),
        (["ENSG00000141510", "ENSG00000012048.3"], ["ENSG00000012048.22", "ENSG00000141510.11"], [1, 0]),
        (["ENSMUSG00000059552.4"], ["ensmusg00000059552"], [0]),
        # A version is cut from Ensembl ids only: these are other genes.
        (["RP11.1", "Actb"], ["RP11.2", "ACTB", "B", "C"], [-1, 1, -1, -1]),
        # Two candidates: neither.
        (["ACTB", "actb", "gapdh"], ["Actb", "GAPDH", "b"], [-1, 2, -1]),
        (["actb", "c"], ["Actb", "ACTB", "c", "d", "e"], [-1, -1, 1, -1, -1]),
    ],
)
def test_names_alike_are_matched_where_few_are_found_exactly(have, wanted, found):
    columns, notes = match_genes(have, wanted, "new.h5ad")
    assert columns.tolist() == found
    relaxed = sum(index >= 0 and have[index] != gene for index, gene in zip(found, wanted, strict=True))
    assert notes[0].startswith(f"genes: matched {relaxed} names without regard to case") == bool(relaxed)


def test_no_common_gene_is_refused():
    with pytest.raises(FIMPError, match=r"new\.h5ad: has none of the 2 genes .*first: a, b; here: x"):
        match_genes(["x"], ["a", "b"], "new.h5ad")


@given(tables, st.data())
def test_taken_columns_are_those_asked_for(values, draw):
    columns = np.array(draw.draw(st.lists(st.integers(-1, values.shape[1] - 1), min_size=1, max_size=8)))
    taken = take_genes(csr(values), columns)
    wanted = np.where(columns < 0, 0, values[:, columns])
    np.testing.assert_array_equal(taken.toarray(), wanted)
    assert taken.has_sorted_indices
    assert taken.dtype == np.float32
