import anndata
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fimp.data.cell_graph import CellReference
from fimp.data.cells import CellOptions, load_cells
from fimp.data.reading import open_source
from fimp.data.simulate import tissue
from fimp.errors import FIMPError


def notes(data):
    return " | ".join(data.notes)


def with_genes(adata, names, counts=None):
    """An AnnData with these genes; those that it lacks get no counts, unless others are given."""
    values = np.zeros((adata.n_obs, len(names)), np.float32)
    old = {gene: index for index, gene in enumerate(adata.var_names)}
    dense = adata.X.toarray()
    for column, name in enumerate(names):
        if name in old:
            values[:, column] = dense[:, old[name]]
        elif counts is not None:
            values[:, column] = counts
    new = anndata.AnnData(values)
    new.var_names = list(names)
    new.obsm["spatial"] = adata.obsm["spatial"]
    return new


@given(st.permutations(range(15)), st.integers(0, 2), st.booleans())
def test_a_file_whose_genes_are_others_gives_the_same_graph(order, silent, counts):
    adata = tissue(40, 12, 2, 2)
    dense = adata.X.toarray()
    dense[:, :silent] = 0
    adata.X = dense if counts else dense * 0.5
    adata = anndata.AnnData(np.asarray(adata.X), var=adata.var, obsm={"spatial": adata.obsm["spatial"]})
    from scipy import sparse

    adata.X = sparse.csr_matrix(adata.X)
    data = load_cells(adata, CellOptions(genes=9))
    # Shuffled, with genes that nothing is known of, and without those that no cell expresses.
    names = [*adata.var_names[silent:], "extra1", "extra2", "extra3"]
    other = with_genes(adata, [names[index] for index in order if index < len(names)])
    again = load_cells(other, CellOptions(), reference=data.reference)
    assert again.gene_names == data.gene_names
    torch.testing.assert_close(again.x.to_dense(), data.x.to_dense())
    assert torch.equal(again.edge_index, data.edge_index)
    assert again.reference == data.reference
    if counts:
        torch.testing.assert_close(again.scale, data.scale)
    else:
        assert again.scale is None


def test_counts_are_scaled_by_all_genes_of_the_new_file_to_the_total_of_the_model(small_adata):
    reference = load_cells(small_adata).reference
    total = np.asarray(small_adata.X.sum(1)).ravel()
    other = with_genes(small_adata, [*small_adata.var_names[:-1], "extra"], counts=7)
    data = load_cells(other, CellOptions(), reference=reference)
    new_total = other.X.sum(1)
    assert reference.target_total == data.target_total == np.median(total)
    np.testing.assert_allclose(data.scale, np.median(total) / new_total)
    wanted = np.log1p(small_adata.X.toarray() * (np.median(total) / new_total)[:, None])
    wanted[:, -1] = 0
    np.testing.assert_allclose(data.x.to_dense(), wanted, rtol=1e-5)
    assert "1 of the model's 12 are not in the file and taken as not expressed (gene11)" in notes(data)
    assert "1 that the model does not know" in notes(data)
    assert "the total that the model was trained with" in notes(data)


@pytest.mark.parametrize("graph", ["auto", "knn", "radius", "delaunay", "expression"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_cells_are_legal_for_a_model(small_adata, tmp_path, graph, count):
    reference = load_cells(small_adata).reference
    few = small_adata[:count].copy()
    few.write_h5ad(tmp_path / "few.h5ad")
    data = load_cells(tmp_path / "few.h5ad", CellOptions(graph=graph), reference=reference)
    assert (data.num_nodes, data.x.shape) == (count, (count, 12))
    if graph != "radius":
        assert data.edge_index.size(1) == count * (count - 1)
    with pytest.raises(FIMPError, match="too few"):
        load_cells(few)
    with pytest.raises(FIMPError, match="0 cells"):
        load_cells(small_adata[:0].copy(), CellOptions(), reference=reference)


def test_crop_selection_and_test_sections_are_for_training_only(small_adata):
    small_adata.obs["slice"] = ["a", "b"] * 15
    options = CellOptions(fraction=0.5, genes=4, test_section=("b",))
    reference = load_cells(small_adata, options).reference
    assert len(reference.gene_names) == 4
    del small_adata.obs["slice"]
    data = load_cells(small_adata, options, reference=reference)
    assert (data.num_nodes, data.x.size(1), data.held_out) == (30, 4, None)


def test_cells_that_express_none_of_the_models_genes_are_legal(small_adata):
    reference = load_cells(small_adata[:, :4].copy()).reference
    small_adata.X = np.c_[np.zeros((30, 4)), small_adata.X.toarray()[:, 4:]].astype(np.float32)
    assert load_cells(small_adata, CellOptions(), reference=reference).x.values().numel() == 0


def test_counts_and_other_values_are_not_mistaken_for_each_other(small_adata):
    of_counts = load_cells(small_adata).reference
    log = small_adata.copy()
    log.X = np.log1p(small_adata.X.toarray())
    of_log = load_cells(log).reference
    assert (of_counts.target_total is None, of_log.target_total) == (False, None)
    with pytest.raises(FIMPError, match=r"new\.h5ad: X holds values that are not counts .*trained on raw counts"):
        load_cells(log, CellOptions(), name="new.h5ad", reference=of_counts)
    with pytest.raises(FIMPError, match=r"new\.h5ad: X holds raw counts, but the model was trained on values that are"):
        load_cells(small_adata, CellOptions(), name="new.h5ad", reference=of_log)
    # Where both are stored, a model reads what it knows.
    log.layers["counts"] = small_adata.X
    assert load_cells(log, CellOptions(), reference=of_log).scale is None
    assert load_cells(log, CellOptions(), reference=of_counts).scale is not None


def test_a_file_without_the_models_genes_is_refused(small_adata):
    reference = CellReference(("a", "b"), 100.0)
    with pytest.raises(FIMPError, match=r"AnnData: has none of the 2 genes"):
        load_cells(small_adata, CellOptions(), reference=reference)


def test_several_files_are_matched_one_by_one(small_adata):
    reference = load_cells(small_adata).reference
    few = with_genes(small_adata, small_adata.var_names[:5])
    data = load_cells([small_adata, few], CellOptions(), reference=reference)
    assert data.gene_names == list(small_adata.var_names)
    assert data.section_names == ["AnnData 1", "AnnData 2"]
    alone = load_cells(few, CellOptions(), reference=reference)
    assert torch.equal(data.x.to_dense()[30:], alone.x.to_dense())
    assert "AnnData 2: genes: 7 of the model's 12" in notes(data)


def test_a_reference_survives_a_configuration_file():
    reference = CellReference(["a", "b"], 10.0, ["x"])
    assert reference == CellReference(("a", "b"), 10.0, ("x",))
    assert hash(reference) == hash(CellReference(("a", "b"), 10.0, ("x",)))


def test_sources_are_opened_by_what_they_are(small_adata, tmp_path, monkeypatch):
    with open_source(small_adata) as (adata, name):
        assert (adata is small_adata, name) == (True, "AnnData")
    with open_source("simulated") as (adata, name):
        assert (adata.n_obs, name) == (3000, "simulated")
    # A file of this name wins over the dataset.
    monkeypatch.chdir(tmp_path)
    small_adata.write_h5ad("simulated")
    with open_source("simulated") as (adata, name):
        assert (adata.n_obs, name) == (30, "simulated")
    small_adata.write_h5ad("simulated")
