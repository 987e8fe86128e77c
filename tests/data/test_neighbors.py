import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fimp.data.cells import CellOptions, load_cells
from fimp.data.graphs import neighbor_distance, radius_graph
from fimp.data.simulate import tissue
from fimp.errors import FIMPError

KINDS = ("knn", "radius", "delaunay", "expression")


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=30, max_size=30), st.sampled_from(KINDS))
def test_no_edge_crosses_sections_whatever_the_graph(names, kind):
    adata = tissue(30, 8, 2, 2)
    # At least two of each, so that the column is one of sections.
    adata.obs["section"] = ["a", "a", "b", "b", *names[4:]]
    data = load_cells(adata, CellOptions(graph=kind, neighbors=4))
    source, destination = data.section[data.edge_index]
    assert (source == destination).all()
    assert (source >= 0).all()
    assert "sections" in " ".join(data.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_section_has_the_graph_that_it_has_alone(kind):
    adata = tissue(60, 8, 2, 2)
    adata.obs["slice"] = ["a", "b", "b"] * 20
    adata.X = adata.X * 0.5  # not counts: a total would depend on the other section
    options = CellOptions(graph=kind, neighbors=5)
    data = load_cells(adata, options)
    for code, name in enumerate(data.section_names):
        rows = torch.from_numpy(np.flatnonzero(adata.obs["slice"] == name))
        own = data.edge_index[:, data.section[data.edge_index[1]] == code]
        if kind == "radius":
            distances = [
                neighbor_distance(adata.obsm["spatial"][adata.obs["slice"] == one], 5) for one in data.section_names
            ]
            radius = float(np.median(np.concatenate(distances)))
            alone = radius_graph(adata.obsm["spatial"][rows], radius)
        else:
            alone = load_cells(adata[rows.numpy()].copy(), options).edge_index
        assert set(map(tuple, rows[alone].T.tolist())) == set(map(tuple, own.T.tolist()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_sections_smaller_than_the_number_of_neighbours(small_adata, kind, dimensions):
    small_adata.obsm["spatial"] = np.random.default_rng(0).uniform(size=(30, dimensions))
    small_adata.obs["slice"] = ["one", "two", "two", "three", "three", "three", *["rest"] * 24]
    data = load_cells(small_adata, CellOptions(graph=kind, neighbors=20))
    degree = np.bincount(data.edge_index[1], minlength=30)
    assert degree[0] == 0
    if kind != "radius":
        assert degree[1:6].tolist() == [1, 1, 2, 2, 2]


def test_stored_edges_that_cross_are_cut_and_counted(small_adata):
    small_adata.obsp["spatial_connectivities"] = sparse.csr_matrix(np.ones((30, 30)))
    small_adata.obs["slice"] = ["a"] * 10 + ["b"] * 20
    data = load_cells(small_adata)
    assert data.edge_index.size(1) == 10 * 9 + 20 * 19
    assert any("cut 400 edges" in note for note in data.notes)
    assert load_cells(small_adata, CellOptions(section="none")).edge_index.size(1) == 30 * 29
    # Cells of no section keep no stored edge, to each other neither.
    small_adata.obs["slice"] = ["a"] * 10 + ["b"] * 15 + [None] * 5
    assert load_cells(small_adata).edge_index.size(1) == 10 * 9 + 15 * 14


def test_cells_at_one_place_of_two_sections_are_no_copies(small_adata):
    small_adata.obsm["spatial"][:] = np.arange(30)[:, None] // 2
    small_adata.obs["slice"] = ["a", "b"] * 15
    assert not any("another cell lies" in note for note in load_cells(small_adata).notes)
    assert any("15 cells lie" in note for note in load_cells(small_adata, CellOptions(section="none")).notes)


def test_a_section_without_a_triangulation_is_named(small_adata):
    small_adata.obsm["spatial"][:10, 0] = 0
    small_adata.obs["slice"] = ["thin"] * 10 + ["wide"] * 20
    with pytest.raises(FIMPError, match="section 'thin': --graph delaunay: 10 nodes"):
        load_cells(small_adata, CellOptions(graph="delaunay"))


@pytest.mark.parametrize("kind", ["knn", "expression"])
def test_the_note_says_how_many_neighbours_there_are(small_adata, kind):
    def note(**options):
        return next(
            n for n in load_cells(small_adata, CellOptions(graph=kind, **options)).notes if n.startswith("graph")
        )

    assert "29 nearest cells" in note(neighbors=500)
    assert "29 nearest cells" in note(neighbors=29)
    assert " 7 nearest cells" in note(neighbors=7)
    small_adata.obs["slice"] = ["a"] * 10 + ["b"] * 20
    assert "19 nearest cells" in note(neighbors=500)
