from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fimp.data import simulate
from fimp.data.cells import CellOptions, load_cells, to_scipy
from fimp.data.graphs import delaunay_graph, expression_graph, knn_graph
from fimp.errors import FIMPError

SPATIAL = Path(__file__).parents[3] / "shared" / "data" / "spatial"


def edges(data):
    return set(zip(*data.edge_index.tolist(), strict=True))


def notes(data):
    return " | ".join(data.notes)


def refused(adata, options=CellOptions(), *words):
    with pytest.raises(FIMPError) as caught:
        load_cells(adata, options, name="tissue.h5ad")
    for word in words:
        assert word in str(caught.value)


def test_a_file_and_an_anndata_in_memory_give_the_same_graph(small_adata, tmp_path):
    path = tmp_path / "tissue.h5ad"
    small_adata.write_h5ad(path)
    stored, held = load_cells(path), load_cells(small_adata)
    assert (stored.name, held.name) == (str(path), "AnnData")
    assert load_cells(path, name="mine").name == "mine"
    assert torch.equal(stored.x.to_dense(), held.x.to_dense())
    for key in ("scale", "edge_index", "pos", "cell_index"):
        assert torch.equal(stored[key], held[key])
    assert stored.gene_names == held.gene_names == list(small_adata.var_names)
    # The file is closed again: it can be written to.
    small_adata.write_h5ad(path)


def test_counts_are_normalised_and_recorded(small_adata):
    counts = small_adata.X.toarray()
    data = load_cells(small_adata)
    total = counts.sum(1, keepdims=True)
    wanted = np.log1p(counts * np.median(total) / total)
    np.testing.assert_allclose(data.x.to_dense().numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(data.scale.numpy(), np.median(total) / total[:, 0])
    assert data.x.layout == torch.sparse_csr
    assert (data.x.dtype, data.scale.dtype, data.pos.dtype) == (torch.float32, torch.float64, torch.float64)
    assert "X: raw counts" in notes(data)
    np.testing.assert_array_equal(small_adata.X.toarray(), counts)


def test_values_that_are_no_counts_stay_as_they_are_and_say_so(small_adata):
    small_adata.X = small_adata.X.toarray() - 1.25
    data = load_cells(small_adata)
    np.testing.assert_array_equal(data.x.to_dense().numpy(), small_adata.X)
    assert "not raw counts" in notes(data)
    # PyG drops attributes that are None; this one must stay readable.
    assert data.scale is None


def test_given_connectivities_are_used_row_receives_from_column(small_adata):
    adjacency = np.zeros((30, 30))
    adjacency[3, 7] = 0.5
    adjacency[4, 4] = 1.0
    for form in (sparse.csr_matrix, sparse.csc_matrix, np.asarray):
        small_adata.obsp["spatial_connectivities"] = form(adjacency)
        data = load_cells(small_adata)
        assert edges(data) == {(7, 3)}
        assert "spatial_connectivities" in notes(data)
    # A named graph wins over what is stored.
    assert len(edges(load_cells(small_adata, CellOptions(graph="knn", neighbors=2)))) == 60


def test_connectivities_that_are_not_finite_are_refused(small_adata):
    small_adata.obsp["spatial_connectivities"] = np.full((30, 30), np.nan)
    refused(small_adata, CellOptions(), "spatial_connectivities", "--graph knn")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_kind_of_spatial_graph_in_2d_and_3d(small_adata, dimensions):
    positions = np.random.default_rng(1).uniform(size=(30, dimensions))
    small_adata.obsm["spatial"] = positions
    for graph, wanted in (
        ("auto", knn_graph(positions, 5)),
        ("knn", knn_graph(positions, 5)),
        ("delaunay", delaunay_graph(positions)),
    ):
        data = load_cells(small_adata, CellOptions(graph=graph, neighbors=5))
        assert torch.equal(data.edge_index, wanted)
        np.testing.assert_array_equal(data.pos.numpy(), positions)
    degree = np.bincount(load_cells(small_adata, CellOptions(graph="radius", neighbors=5)).edge_index[1], minlength=30)
    assert 14 <= (degree >= 5).sum() <= 17


def test_without_coordinates_the_graph_comes_from_expression_with_a_notice(small_adata):
    chosen = load_cells(small_adata, CellOptions(graph="expression", neighbors=4))
    del small_adata.obsm["spatial"]
    data = load_cells(small_adata, CellOptions(neighbors=4))
    assert data.pos is None
    assert "no coordinates" in notes(data)
    assert torch.equal(data.edge_index, expression_graph(to_scipy(data.x), 4))
    assert torch.equal(data.edge_index, chosen.edge_index)
    for graph in ("knn", "radius", "delaunay"):
        refused(small_adata, CellOptions(graph=graph), f"--graph {graph}", "--graph expression")


def test_other_coordinates_can_be_named_and_must_be_there(small_adata):
    small_adata.obsm["centroid"] = small_adata.obsm["spatial"][::-1].copy()
    data = load_cells(small_adata, CellOptions(spatial_key="centroid"))
    np.testing.assert_array_equal(data.pos.numpy(), small_adata.obsm["centroid"])
    refused(small_adata, CellOptions(spatial_key="umap"), "'umap'", "spatial, centroid")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coordinates_that_are_not_finite_are_refused(small_adata, bad):
    small_adata.obsm["spatial"][[2, 5], 1] = bad
    refused(small_adata, CellOptions(), "2 cells", "obsm['spatial']")


def test_coordinates_of_the_wrong_shape_or_kind_are_refused(small_adata):
    for shape in ((30, 1), (30, 4)):
        small_adata.obsm["spatial"] = np.zeros(shape)
        refused(small_adata, CellOptions(), str(list(shape)))
    small_adata.obsm["spatial"] = np.full((30, 2), "left", dtype=object)
    refused(small_adata, CellOptions(), "not numeric")


def test_duplicate_gene_names_are_refused(small_adata):
    small_adata.var_names = ["a", "b", "a", "a", *small_adata.var_names[4:]]
    refused(small_adata, CellOptions(), "tissue.h5ad", "2 duplicate", "var_names_make_unique")


def test_cells_at_one_place_are_legal_and_noted(small_adata):
    small_adata.obsm["spatial"][:4] = 7.0
    data = load_cells(small_adata, CellOptions(neighbors=3))
    assert "3 cells lie exactly where another cell lies" in notes(data)
    assert {(j, i) for j in range(4) for i in range(4) if i != j} <= edges(data)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("budget", ["1", "1000000000"])
def test_cells_that_are_in_two_files_are_counted(small_adata, tmp_path, monkeypatch, spatial, budget):
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", budget)
    if not spatial:
        del small_adata.obsm["spatial"]
    other = small_adata.copy()
    other.X = other.X[:, ::-1]
    files = [tmp_path / f"{name}.h5ad" for name in ("x", "y", "x_annotated")]
    small_adata.write_h5ad(files[0])
    other.write_h5ad(files[1])
    small_adata.obs["more"] = "a"
    small_adata[::-1][:25].copy().write_h5ad(files[2])
    assert "another section" not in notes(load_cells(files[:2]))
    for options in (CellOptions(), CellOptions(test_section="x_annotated")):
        found = notes(load_cells(files, options))
        assert "25 cells are also in another section" in found
        assert "give every cell once" in found
    # Cells that say nothing are alike, and no copies.
    small_adata.X = small_adata.X.toarray() * (np.arange(30) < 12)[:, None]
    small_adata.write_h5ad(files[2])
    assert "12 cells are also in another section" in notes(load_cells([files[0], files[2]]))


def test_nine_cells_are_too_few(small_adata):
    refused(small_adata[:9].copy(), CellOptions(), "9 cells", "at least 10")
    assert load_cells(small_adata[:10].copy()).num_nodes == 10


@given(st.floats(0.34, 0.99))
def test_a_crop_rebuilds_graph_and_scale_inside_itself(fraction):
    from fimp.data.simulate import tissue

    adata = tissue(80, 8, 2, 2)
    data = load_cells(adata, CellOptions(fraction=fraction, neighbors=4))
    kept = data.cell_index.numpy()
    alone = load_cells(adata[kept].copy(), CellOptions(neighbors=4))
    assert len(kept) == round(80 * fraction)
    assert torch.equal(data.edge_index, alone.edge_index)
    # The median total is that of the crop: nothing outside may tell.
    assert torch.equal(data.x.to_dense(), alone.x.to_dense())
    np.testing.assert_array_equal(data.pos.numpy(), adata.obsm["spatial"][kept])


def test_what_is_outside_a_crop_is_all_the_rest_and_needs_no_graph(small_adata):
    inside, outside = (
        load_cells(small_adata, CellOptions(fraction=0.4, outside=outside, graph="none")) for outside in (False, True)
    )
    both = torch.cat([inside.cell_index, outside.cell_index])
    assert sorted(both.tolist()) == list(range(30))
    assert outside.num_nodes == 18
    assert outside.edge_index.shape == (2, 0)
    small_adata.obsm.clear()
    refused(small_adata, CellOptions(fraction=0.4, outside=True), "--outside needs coordinates", "--spatial-key")
    small_adata.obsp["spatial_connectivities"] = sparse.csr_matrix(np.ones((30, 30)))
    assert load_cells(small_adata, CellOptions(graph="none")).edge_index.shape == (2, 0)


def test_a_crop_keeps_the_given_connectivities_between_its_cells(small_adata):
    small_adata.obsp["spatial_connectivities"] = sparse.csr_matrix(np.ones((30, 30)))
    data = load_cells(small_adata, CellOptions(fraction=0.5))
    assert len(edges(data)) == 15 * 14


def test_a_crop_without_coordinates_is_contiguous_in_expression(small_adata):
    del small_adata.obsm["spatial"]
    assert load_cells(small_adata, CellOptions(fraction=0.5)).num_nodes == 15
    # A single gene has no principal components to spare.
    assert load_cells(small_adata[:, :1].copy(), CellOptions(fraction=0.5, min_counts=0)).num_nodes == 15


def test_a_crop_that_holds_only_zeros_is_refused(small_adata):
    small_adata.obsm["spatial"] = np.c_[np.arange(30.0), np.zeros(30)]
    counts = np.zeros((30, 12), np.float32)
    # Whatever the centre, one end of the line is outside of the crop.
    centre = int(load_cells(small_adata, CellOptions(fraction=0.4)).cell_index[0])
    counts[29 if centre < 15 else 0] = 1
    small_adata.X = counts
    refused(small_adata, CellOptions(fraction=0.4), "larger --fraction")


@pytest.mark.skipif(not SPATIAL.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize(
    ("file", "shape", "dimensions", "counts"),
    [("osmfish_cortex", (4300, 33), 2, True), ("drosophila_embryo", None, 3, False)],
)
def test_real_tissue(file, shape, dimensions, counts):
    data = load_cells(SPATIAL / f"{file}.h5ad")
    assert shape is None or tuple(data.x.shape) == shape
    assert data.pos.size(1) == dimensions
    assert (data.scale is not None) == counts
    assert data.edge_index.size(1) == 8 * data.num_nodes
    assert torch.isfinite(data.x.values()).all()


def test_cells_of_few_counts_stay_in_the_graph_and_say_nothing(small_adata):
    adata = small_adata.copy()
    counts = adata.X.toarray() if sparse.issparse(adata.X) else np.array(adata.X)
    counts[3] = 0
    counts[3, 0] = 2
    adata.X = sparse.csr_matrix(counts)
    data, kept = load_cells(adata), load_cells(adata, CellOptions(min_counts=0))
    assert "1 cells of fewer than 10 counts" in notes(data)
    assert "fewer than" not in notes(kept)
    assert torch.equal(data.edge_index, kept.edge_index)
    assert to_scipy(data.x)[3].nnz == 0
    assert to_scipy(kept.x)[3].nnz == 1
    # The one whose value would have been the largest of all.
    assert to_scipy(kept.x).max() == to_scipy(kept.x)[3].max()


def test_all_cells_of_few_counts_are_refused_but_a_trained_model_reads_them(small_adata):
    refused(small_adata, CellOptions(min_counts=10**6), "1000000 counts or more", "--min-counts")
    reference = load_cells(small_adata).reference
    assert load_cells(small_adata[:1], CellOptions(min_counts=10**6), reference=reference).x.to_dense().sum() == 0


def test_a_panel_is_not_compared_with_a_transcriptome_in_silence():
    panel = simulate.tissue(n_cells=60, seed=3)
    model_of = load_cells(panel).reference
    assert model_of.share == pytest.approx(1.0)
    others = np.random.default_rng(0).poisson(20.0, (60, 200)).astype(np.float32)
    both = sparse.hstack([panel.X, others], format="csr")
    whole = anndata.AnnData(both, obsm={"spatial": panel.obsm["spatial"]})
    whole.var_names = [*panel.var_names, *(f"other{index}" for index in range(200))]
    remark = "values of the two do not compare"
    notes = " ".join(load_cells(whole, reference=model_of).notes)
    assert remark in notes
    assert "held 100% where it was trained" in notes
    # The other way round, and where nothing is amiss.
    few = load_cells(whole, CellOptions(genes=24)).reference
    assert few.share < 0.5
    assert remark in " ".join(load_cells(whole[:, list(few.gene_names)].copy(), reference=few).notes)
    assert remark not in " ".join(load_cells(whole, reference=few).notes)
    assert remark not in " ".join(load_cells(panel, reference=model_of).notes)
