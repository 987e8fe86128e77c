import numpy as np
import pandas as pd
import pytest

from fimp.data.cells import CellOptions, load_cells
from fimp.data.columns import Coded
from fimp.data.sections import crop_sections, held_out_cells, read_sections
from fimp.errors import FIMPError

HALVES = ["left", "right"] * 15


def frame(**columns):
    return pd.DataFrame(columns, index=[f"cell{index}" for index in range(30)])


def names(obs, wanted=None):
    coded, _ = read_sections(obs, wanted, "tissue.h5ad")
    return None if coded is None else coded.names


@pytest.mark.parametrize("column", ["section", "slice", "library_id", "batch"])
def test_usual_columns_are_recognised_and_reported(column):
    coded, notes = read_sections(frame(**{column: HALVES}), None, "tissue.h5ad")
    assert coded.names == ["left", "right"]
    assert coded.codes.tolist() == [0, 1] * 15
    assert len(notes) == 1
    assert notes[0].startswith(f"sections: 2 in obs['{column}']")


def test_the_first_that_looks_like_sections_is_taken():
    assert names(frame(batch=["x"] * 15 + ["y"] * 15, slice=HALVES)) == ["left", "right"]
    for useless in (["one"] * 30, range(30), [None] * 30, np.linspace(0, 1, 30) // 0.1 / 7):
        assert names(frame(section=useless, batch=HALVES)) == ["left", "right"]
        assert names(frame(section=useless)) is None
    assert names(frame(Section=HALVES)) is None


def test_a_recognised_column_can_be_switched_off_or_another_be_named():
    obs = frame(section=HALVES, mouse=[3, 1, 2] * 10)
    assert names(obs, "none") is None
    assert names(obs, "mouse") == ["1", "2", "3"]
    # A named column may hold one section; it was asked for.
    assert names(frame(mouse=[1] * 30), "mouse") == ["1"]


def test_cells_that_a_recognised_column_says_nothing_about_are_in_no_section():
    obs = frame(section=["a", "b", None] * 10)
    coded, notes = read_sections(obs, None, "tissue.h5ad")
    assert coded.codes.tolist() == [0, 1, -1] * 10
    assert "10 cells have no value in obs['section']" in notes[1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a", "b", None] * 10, ["10 cells have no value", "obs['mouse']"]),
        (range(30), ["another value for each of 30 cells"]),
        (None, ["no obs column 'mouse'", "it has batch;", "--section none"]),
    ],
)
def test_a_named_column_that_cannot_be_is_refused(values, words):
    obs = frame(batch=HALVES) if values is None else frame(mouse=values)
    with pytest.raises(FIMPError) as caught:
        read_sections(obs, "mouse", "tissue.h5ad")
    for word in ("tissue.h5ad: ", *words):
        assert word in str(caught.value)


def test_new_cells_of_a_trained_model_need_no_section_column(small_adata):
    small_adata.obs["mouse"] = HALVES
    reference = load_cells(small_adata, CellOptions(section="mouse")).reference
    # Each cell is a section of its own.
    single = load_cells(small_adata[:1].copy(), CellOptions(section="mouse"), reference=reference)
    assert single.section_names == ["left"]
    pair = load_cells(small_adata[:2].copy(), CellOptions(section="mouse"), reference=reference)
    assert (pair.section_names, pair.edge_index.size(1)) == (["left", "right"], 0)
    del small_adata.obs["mouse"]
    data = load_cells(small_adata, CellOptions(section="mouse"), reference=reference)
    assert data.section is None
    assert any("no obs['mouse'] here" in note for note in data.notes)


def test_a_graph_says_which_section_a_cell_is_in(small_adata, tmp_path):
    data = load_cells(small_adata)
    assert (data.section, data.section_names, data.held_out) == (None, None, None)
    small_adata.obs["slice"] = pd.Categorical(HALVES, categories=["right", "left", "unused"])
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    for source in (small_adata, tmp_path / "tissue.h5ad"):
        data = load_cells(source)
        assert data.section_names == ["right", "left"]
        assert data.section.tolist() == [1, 0] * 15
    assert load_cells(small_adata, CellOptions(section="none")).section is None


SECTION = Coded(np.array([0, 1, 2, -1] * 5), ["a", "b", "c"], "text")


def test_held_out_cells_are_those_of_the_named_sections():
    assert held_out_cells(SECTION, (), "x") is None
    assert held_out_cells(SECTION, ("c",), "x").tolist() == [False, False, True, False] * 5
    assert held_out_cells(SECTION, ("c", "a", "c"), "x").tolist() == [True, False, True, False] * 5


@pytest.mark.parametrize(
    ("section", "wanted", "words"),
    [
        (None, ("a",), ["'a'", "no sections", "--section"]),
        (SECTION, ("a", "z"), ["'z' does not exist", "a, b, c"]),
        (SECTION, ("a", "b", "c"), ["leaves 5 cells", "at least 8"]),
    ],
)
def test_sections_that_cannot_be_held_out(section, wanted, words):
    with pytest.raises(FIMPError) as caught:
        held_out_cells(section, wanted, "tissue.h5ad")
    for word in ("tissue.h5ad: --test-section", *words):
        assert word in str(caught.value)


def test_nothing_is_learned_from_held_out_sections(small_adata):
    small_adata.obs["slice"] = ["seen"] * 20 + ["unseen"] * 10
    options = CellOptions(test_section="unseen", genes=5)
    data = load_cells(small_adata, options)
    assert "test sections: unseen; 10 of 30 cells" in data.notes
    assert data.held_out.tolist() == [False] * 20 + [True] * 10
    counts = small_adata.X.toarray()
    assert data.target_total == np.median(counts[:20].sum(1))
    # Whatever the test section holds, the seen cells are the same.
    counts[20:] = 0
    counts[20:, 3] = np.arange(10) * 1000 + 1
    small_adata.X = counts
    other = load_cells(small_adata, options)
    assert other.gene_names == data.gene_names
    np.testing.assert_array_equal(other.x.to_dense()[:20], data.x.to_dense()[:20])
    counts[:20] = 0
    small_adata.X = counts
    with pytest.raises(FIMPError, match="outside the test sections is zero"):
        load_cells(small_adata, options)


def test_a_crop_takes_the_same_share_of_every_section(small_adata):
    positions = np.c_[np.arange(30.0), np.zeros(30)]
    section = Coded(np.repeat([0, 1, -1], 10), ["a", "b"], "text")
    kept = crop_sections(positions, 0.3, section)
    np.testing.assert_array_equal(np.bincount(kept // 10), [3, 3, 3])
    for piece in kept.reshape(3, 3):
        np.testing.assert_array_equal(np.diff(piece), 1)
    # Sections that lie on top of each other in their own coordinates, too.
    small_adata.obsm["spatial"] = np.c_[np.arange(30.0) % 15, np.zeros(30)]
    small_adata.obs["slice"] = ["a"] * 15 + ["b"] * 15
    data = load_cells(small_adata, CellOptions(fraction=0.4))
    assert np.bincount(data.section).tolist() == [6, 6]
    for code in (0, 1):
        np.testing.assert_array_equal(np.diff(data.pos[data.section == code, 0]), 1)
