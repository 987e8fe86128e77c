import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from fimp.data.cells import CellOptions, load_cells, to_scipy
from fimp.data.simulate import tissue
from fimp.errors import FIMPError


def write(folder, name, adata):
    path = folder / f"{name}.h5ad"
    path.parent.mkdir(exist_ok=True, parents=True)
    adata.write_h5ad(path)
    return path


@pytest.fixture
def pair(small_adata, tmp_path):
    """Two files: the second lacks two genes, has another, and its genes lie in another order."""
    other = small_adata[:20, 2:][:, ::-1].copy()
    other.var_names = ["new", *other.var_names[1:]]
    return write(tmp_path, "first", small_adata), write(tmp_path, "second", other)


def test_every_file_is_a_section_and_shared_genes_are_joined_by_name(pair, small_adata):
    data = load_cells(pair)
    shared = [f"gene{index}" for index in range(2, 11)]
    assert data.gene_names == shared
    assert data.name == "first + second"
    assert data.section_names == ["first", "second"]
    assert data.section.tolist() == [0] * 30 + [1] * 20
    assert data.cell_index.tolist() == list(range(50))
    assert "kept the 9 genes that all 2 files have, of 12, 10" in data.notes
    # Cells of the second file are the first cells of the first: they are the same over the shared genes.
    values = data.x.to_dense()
    torch.testing.assert_close(values[30:], values[:20])
    total = np.asarray(small_adata[:, shared].X.sum(1)).ravel()
    assert data.target_total == np.median([*total, *total[:20]])
    source, destination = data.section[data.edge_index]
    assert (source == destination).all()
    np.testing.assert_array_equal(data.pos[30:], data.pos[:20])


def test_files_without_differences_are_as_one_file_with_sections(tmp_path):
    adata = tissue(60, 10, 2, 2)
    adata.obs["slice"] = ["a"] * 25 + ["b"] * 35
    paths = [write(tmp_path, name, adata[adata.obs["slice"] == name].copy()) for name in "ab"]
    options = CellOptions(section="none", genes=6, label="cell_type")
    joined, whole = load_cells(paths, options), load_cells(adata, CellOptions(genes=6, label="cell_type"))
    assert (to_scipy(joined.x) != to_scipy(whole.x)).nnz == 0
    for key in ("scale", "edge_index", "pos", "section", "y", "cell_index"):
        assert torch.equal(joined[key], whole[key]), key
    for key in ("gene_names", "section_names", "classes", "target_total"):
        assert joined[key] == whole[key]


def test_sections_inside_files_and_data_in_memory(small_adata, tmp_path):
    inside = small_adata.copy()
    inside.obs["slice"] = ["x", "y", None] * 10
    data = load_cells([write(tmp_path, "one", inside), small_adata])
    assert data.section_names == ["one/x", "one/y", "AnnData 2"]
    assert data.section.tolist() == [0, 1, -1] * 10 + [2] * 30
    assert data.name == "one + AnnData 2"
    swapped = load_cells([small_adata, tmp_path / "one.h5ad"])
    assert swapped.section_names == ["AnnData 1", "one/x", "one/y"]
    assert swapped.section.tolist() == [0] * 30 + [1, 2, -1] * 10
    assert load_cells([inside, small_adata], name="mine").name == "mine"


def test_files_of_one_name_are_told_apart_by_their_paths(small_adata, tmp_path):
    paths = [write(tmp_path / folder, "tissue", small_adata) for folder in "ab"]
    assert load_cells(paths).section_names == [str(path) for path in paths]


def test_named_datasets_join_too(small_adata):
    simulated = tissue()
    data = load_cells(["simulated", simulated[:30].copy()])
    assert data.section_names == ["simulated", "AnnData 2"]
    assert data.num_nodes == simulated.n_obs + 30


def test_a_file_can_be_the_test_section(pair):
    data = load_cells(pair, CellOptions(test_section=("second",)))
    assert data.held_out.tolist() == [False] * 30 + [True] * 20


def test_labels_of_several_files_are_one_set_of_classes(small_adata):
    first, second = small_adata.copy(), small_adata.copy()
    first.obs["type"] = pd.Categorical(["b", "a", None] * 10, categories=["b", "a"])
    second.obs["type"] = pd.Categorical(["c", "b", "b"] * 10)
    data = load_cells([first, second], CellOptions(label="type"))
    assert data.classes == ["b", "a", "c"]
    assert data.y.tolist() == [0, 1, -1] * 10 + [2, 0, 0] * 10
    del second.obs["type"]
    with pytest.raises(FIMPError, match="AnnData 2: no obs column 'type'"):
        load_cells([first, second], CellOptions(label="type"))
    new = load_cells([first, second], CellOptions(label="type"), reference=data.reference)
    assert new.y.tolist() == [0, 1, -1] * 10 + [-1] * 30


def test_stored_graphs_are_used_where_all_files_have_one(small_adata):
    stored = small_adata.copy()
    stored.obsp["spatial_connectivities"] = sparse.csr_matrix(np.ones((30, 30)))
    data = load_cells([stored, stored.copy()])
    assert data.edge_index.size(1) == 2 * 30 * 29
    data = load_cells([stored, small_adata], CellOptions(neighbors=4))
    assert data.edge_index.size(1) == 2 * 30 * 4
    assert any("in 1 of 2 files only" in note for note in data.notes)


def continuous(adata):
    adata.X = adata.X * 0.5


def three_dimensions(adata):
    adata.obsm["spatial"] = np.random.default_rng(0).uniform(size=(30, 3))


def no_coordinates(adata):
    del adata.obsm["spatial"]


def other_genes(adata):
    adata.var_names = [f"other{index}" for index in range(12)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (continuous, ["raw counts", "other values", "--layer"]),
        (three_dimensions, ["has 3-D coordinates", "has 2-D coordinates"]),
        (no_coordinates, ["has no coordinates", "--graph expression"]),
        (other_genes, ["0 genes are in both", "gene0", "other0"]),
    ],
)
def test_files_that_do_not_fit_together(small_adata, tmp_path, change, words):
    other = small_adata.copy()
    change(other)
    paths = [write(tmp_path, "first", small_adata), write(tmp_path, "second", other)]
    with pytest.raises(FIMPError) as caught:
        load_cells(paths)
    for word in (*map(str, paths), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("change", [three_dimensions, no_coordinates])
def test_a_graph_from_expression_needs_no_common_coordinates(small_adata, change):
    other = small_adata.copy()
    change(other)
    data = load_cells([small_adata, other], CellOptions(graph="expression", neighbors=3))
    assert data.pos is None
    assert data.edge_index.size(1) == 2 * 30 * 3
    assert load_cells([small_adata, small_adata.copy()], CellOptions(graph="expression")).pos is not None


def test_lists_that_cannot_be(small_adata, tmp_path):
    path = write(tmp_path, "tissue", small_adata)
    with pytest.raises(FIMPError, match="is given 2 times"):
        load_cells([path, tmp_path / "." / "tissue.h5ad"])
    with pytest.raises(FIMPError, match="an AnnData is given 2 times"):
        load_cells([small_adata, small_adata])
    with pytest.raises(FIMPError, match="no file"):
        load_cells([])
    assert load_cells([path]).section is None
