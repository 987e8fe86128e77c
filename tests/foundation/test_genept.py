import json
import os
import pickle

import numpy as np
import pandas as pd
import pytest

from fimp.errors import FIMPError
from fimp.foundation.genept import read_gene_table

TABLE = {"ACTB": [0.5, -1.0, 2.0], "TP53": [1.0, 0.0, 3.5]}


def write(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def runs_code(path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(path),)

    return Evil()


@pytest.mark.parametrize("suffix", [".pickle", ".pkl"])
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path, suffix):
    made = tmp_path / "made"
    path = write(tmp_path / f"x{suffix}", {"ACTB": [1.0], "TP53": runs_code(made)})
    with pytest.raises(FIMPError, match="mkdir, which could run code and was not loaded") as error:
        read_gene_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()


def parquet(path, table):
    pytest.importorskip("pyarrow")
    table.to_parquet(path)
    return path


def tables(folder):
    matrix = np.array(list(TABLE.values()))
    genes = np.array(list(TABLE))
    np.savez(folder / "both.npz", genes=genes, embeddings=matrix)
    np.savez(folder / "each.npz", **{gene: np.array(row, dtype=np.float32) for gene, row in TABLE.items()})
    yield folder / "both.npz"
    yield folder / "each.npz"
    yield write(folder / "lists.pickle", TABLE)
    yield write(folder / "arrays.pkl", {gene: np.array(row) for gene, row in TABLE.items()})


def test_every_format_gives_the_same_table(tmp_path):
    for path in tables(tmp_path):
        genes, matrix = read_gene_table(path)
        assert genes == list(TABLE)
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, list(TABLE.values()))


def test_parquet_gives_the_same_table(tmp_path):
    columns = pd.DataFrame(list(TABLE.values()), index=list(TABLE), columns=["0", "1", "2"])
    lists = pd.DataFrame({"gene": list(TABLE), "embedding": list(TABLE.values())})
    for table in (columns, columns.rename_axis("gene").reset_index(), lists, lists.set_index("gene")):
        genes, matrix = read_gene_table(parquet(tmp_path / "x.parquet", table))
        assert genes == list(TABLE)
        np.testing.assert_array_equal(matrix, list(TABLE.values()))
    with pytest.raises(FIMPError, match="names of genes"):
        read_gene_table(parquet(tmp_path / "x.parquet", columns.reset_index(drop=True)))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(FIMPError, match=r"x\.parquet: not readable"):
        read_gene_table(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"ACTB": [1.0, 2.0], "TP53": [1.0]}, r"'TP53' has shape \[1\], wanted \[2\] as that of 'ACTB'"),
        ({"ACTB": [1.0, float("nan")]}, "'ACTB' has entries that are NaN"),
        ({"ACTB": [1.0, 1e300]}, "'ACTB' has entries that are NaN or infinite"),
        ({"ACTB": ["a", "b"]}, "'ACTB' is not of numbers"),
        ({"ACTB": [[1.0], [1.0, 2.0]]}, "'ACTB' is not of numbers"),
        ({"ACTB": []}, "'ACTB' has shape"),
        ({"ACTB": 1.0}, "'ACTB' has shape"),
        ({1: [1.0]}, "gene 1 is a int"),
        ({}, "no genes"),
        ([1.0], "holds a list"),
    ],
)
def test_tables_that_are_none_name_the_gene(tmp_path, content, wanted):
    path = write(tmp_path / "x.pickle", content)
    with pytest.raises(FIMPError, match=wanted) as error:
        read_gene_table(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_npz_is_read_without_pickle(tmp_path):
    made = tmp_path / "made"
    np.savez(tmp_path / "x.npz", ACTB=np.array([runs_code(made)], dtype=object))
    with pytest.raises(FIMPError, match=r"x\.npz: not readable"):
        read_gene_table(tmp_path / "x.npz")
    assert not made.exists()
    np.savez(tmp_path / "x.npz", genes=np.array(["A", "B"]), embeddings=np.zeros((3, 2)))
    with pytest.raises(FIMPError, match=r"shape \[2\].*shape \[3, 2\]"):
        read_gene_table(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", genes=np.array(["A", "A"]), embeddings=np.zeros((2, 2)))
    with pytest.raises(FIMPError, match="'A' is there twice"):
        read_gene_table(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(FIMPError, match=r"x\.npz: not readable"):
        read_gene_table(tmp_path / "x.npz")


def test_other_suffixes_are_named(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(TABLE))
    with pytest.raises(FIMPError, match=r"ends in \.pickle, \.pkl, \.npz, \.parquet"):
        read_gene_table(tmp_path / "x.json")
