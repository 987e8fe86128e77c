import numpy as np
import pandas as pd
import pytest

from fimp.data.cells import CellOptions, load_cells
from fimp.data.labels import label_candidates
from fimp.errors import FIMPError


def labelled(small_adata, values, **options):
    small_adata.obs["type"] = values
    return load_cells(small_adata, CellOptions(label="type", **options), name="tissue.h5ad")


def missing(values):
    return np.array([*values, None], dtype=object)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a", "c"] * 10, ["a", "b", "c"]),
        (pd.Categorical(["b", "a", "c"] * 10, categories=["c", "unused", "b", "a"]), ["c", "b", "a"]),
        (pd.Categorical([2, 10, 2] * 10), ["2", "10"]),
        ([2, 10, 9] * 10, ["2", "9", "10"]),
        ([True, False, True] * 10, ["False", "True"]),
        ([1.0, 2.0, np.nan] * 10, ["1", "2"]),
        ([b"b", b"a", b""] * 10, ["a", "b"]),
        ([1, "a", None] * 10, ["1", "a"]),
        (pd.array(["a", "b", pd.NA] * 10, dtype="string"), ["a", "b"]),
    ],
    ids=["text", "categorical", "int-categories", "int", "bool", "float", "bytes", "mixed", "NA"],
)
def test_a_column_becomes_classes(small_adata, values, classes):
    data = labelled(small_adata, values)
    assert data.classes == classes
    assert data.reference.classes == tuple(classes)
    assert data.y.numpy().dtype == np.int64
    column = small_adata.obs["type"]
    for code, value in zip(data.y.tolist(), column, strict=True):
        if code < 0:
            assert pd.isna(value) or value == b""
        else:
            value = value.decode() if isinstance(value, bytes) else value
            assert classes[code] in (str(value), str(value).removesuffix(".0"))
    unlabelled = int((data.y < 0).sum())
    note = next(note for note in data.notes if note.startswith("label"))
    assert ("unlabelled" in note) == bool(unlabelled)
    assert f"{len(classes)} classes" in note


def test_a_written_file_gives_the_same_labels(small_adata, tmp_path):
    data = labelled(small_adata, pd.Categorical(["b", "a", None] * 10, categories=["b", "a"]))
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    stored = load_cells(tmp_path / "tissue.h5ad", CellOptions(label="type"))
    assert stored.classes == data.classes == ["b", "a"]
    assert stored.y.tolist() == data.y.tolist() == [0, 1, -1] * 10


@pytest.mark.parametrize("form", [list, pd.Categorical], ids=["text", "categorical"])
def test_missing_values_that_became_text_are_unlabelled_and_counted(small_adata, form):
    values = pd.Series(["a", "b", None, "a", np.nan] * 6, dtype=object).astype(str)
    data = labelled(small_adata, form([*values[:28], "<NA>", None]))
    assert data.classes == ["a", "b"]
    assert data.y.tolist() == [0, 1, -1, 0, -1] * 5 + [0, 1, -1, -1, -1]
    assert any("obs['type'], 2 classes, 13 cells unlabelled" in note for note in data.notes)
    assert any("12 cells have a missing value written as text in obs['type']" in note for note in data.notes)
    small_adata.obs["type"] = ["a", "b", None] * 10
    assert not any("written as text" in note for note in load_cells(small_adata, CellOptions(label="type")).notes)


def test_a_column_of_missing_values_as_text_has_no_label(small_adata):
    with pytest.raises(FIMPError, match="is missing for all 30 cells"):
        labelled(small_adata, ["nan"] * 30)


def test_too_few_labels_are_not_too_few_cells(small_adata):
    with pytest.raises(FIMPError) as caught:
        labelled(small_adata, [*["a", "b", "a"] * 3, *[None] * 21])
    assert str(caught.value).startswith("tissue.h5ad: 9 of 30 cells have a value in obs['type']")
    assert "label more cells, or name another column with --label" in str(caught.value)


def test_classes_are_compared_with_labelled_cells(small_adata):
    with pytest.raises(FIMPError, match="has 6 classes for 10 labelled cells"):
        labelled(small_adata, [*"abcdef", *"abab", *[None] * 20])
    with pytest.raises(FIMPError, match=r"one class only \('a'\) among 10 labelled cells"):
        labelled(small_adata, [*["a"] * 10, *[None] * 20])


def test_without_a_label_there_is_none(small_adata):
    data = load_cells(small_adata)
    assert data.y is None
    assert data.classes is None
    assert data.reference.classes is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a"] * 30, ["one class only ('a')", "at least two"]),
        ([None] * 30, ["missing for all 30 cells"]),
        ([f"cell{index}" for index in range(30)], ["30 classes for 30 cells", "identifier"]),
        ([*range(16), *[0] * 14], ["16 classes"]),
        (np.linspace(0, 1, 30), ["holds numbers, 30 different", "pandas.cut"]),
    ],
    ids=["one", "none", "id", "many", "measure"],
)
def test_what_is_no_label_is_refused(small_adata, values, words):
    with pytest.raises(FIMPError) as caught:
        labelled(small_adata, values)
    for word in ("tissue.h5ad", "obs['type']", "--label", *words):
        assert word in str(caught.value)


def test_whole_numbers_of_many_kinds_are_no_label(small_adata):
    import anndata
    from scipy import sparse

    large = anndata.AnnData(sparse.random(1000, 3, 0.5, format="csr", random_state=0, dtype=np.float32))
    large.obs["total"] = np.arange(1000) // 3
    with pytest.raises(FIMPError, match="holds numbers, 334 different"):
        load_cells(large, CellOptions(label="total"))


def test_a_missing_column_lists_what_looks_like_labels(small_adata):
    obs = small_adata.obs
    obs["layer"] = ["I", "II"] * 15
    obs["good"] = [True, False] * 15
    obs["one"] = "x"
    obs["id"] = [f"cell{index}" for index in range(30)]
    obs["size"] = np.linspace(0, 1, 30)
    obs["cluster"] = [1, 2] * 15
    assert label_candidates(obs) == {"layer": 2, "good": 2}
    with pytest.raises(
        FIMPError, match=r"no obs column 'type' for --label; columns that look like labels: layer, good$"
    ):
        load_cells(small_adata, CellOptions(label="type"))
    obs.drop(columns=["layer", "good"], inplace=True)
    with pytest.raises(FIMPError, match="none looks like a label"):
        load_cells(small_adata, CellOptions(label="type"))


def test_classes_are_those_of_the_cropped_cells(small_adata):
    small_adata.obsm["spatial"] = np.c_[np.arange(30.0), np.zeros(30)]
    data = labelled(small_adata, ["a"] * 10 + ["b"] * 10 + ["c"] * 10, fraction=0.5)
    present = {["a", "b", "c"][index // 10] for index in data.cell_index.tolist()}
    assert data.classes == sorted(present)
    assert len(present) == 2


def test_a_trained_models_classes_are_found_by_name(small_adata):
    reference = labelled(small_adata, ["a", "b", None] * 10).reference
    new = small_adata.copy()
    new.obs["type"] = ["new", "b", "", "a", "other"] * 6
    data = load_cells(new, CellOptions(label="type"), reference=reference)
    assert data.classes == ["a", "b"]
    assert data.y.tolist() == [-1, 1, -1, 0, -1] * 6
    assert any("12 cells have a class that the model does not know (new, other)" in note for note in data.notes)
    assert data.reference == reference
    # One class, or none at all, is fine for cells that are only read.
    new.obs["type"] = "a"
    assert set(load_cells(new, CellOptions(label="type"), reference=reference).y.tolist()) == {0}
    del new.obs["type"]
    for label in ("type", None):
        data = load_cells(new, CellOptions(label=label), reference=reference)
        assert set(data.y.tolist()) == {-1}
        assert any("all cells are unlabelled" in note for note in data.notes)


def test_a_model_that_does_not_classify_reads_no_labels(small_adata):
    reference = load_cells(small_adata).reference
    small_adata.obs["type"] = "a"
    assert load_cells(small_adata, CellOptions(label="type"), reference=reference).y is None
