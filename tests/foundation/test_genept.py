import contextlib
import io
import json
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest

from fimp.errors import FIMPError
from fimp.foundation.genept import read_gene_table
from fimp.foundation.pickles import read_pickle

TABLE = {"ACTB": [0.5, -1.0, 2.0], "TP53": [1.0, 0.0, 3.5]}


def write(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_and_arrays_come_back_from_every_protocol(tmp_path, protocol):
    content = {
        "list": [1, 2.5, "text", b"bytes", None, True],
        "tuple": (1, (2,)),
        "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">f8"),
        "text": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3)),
        "scalar": np.float64(1.5),
        "ordered": OrderedDict(a=1),
        7: -(2**70),
    }
    found = read_pickle(write(tmp_path / "x.pkl", content, protocol))
    assert found.keys() == content.keys()
    for key, value in content.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[key], value)
        else:
            assert found[key] == value
    assert found["float32"].dtype == np.float32
    assert type(found["list"][5]) is bool


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


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "os.system", "numpy.load", "numpy.lib.npyio.load"]
)
def test_no_other_name_is_looked_up(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    (tmp_path / "x.pkl").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(FIMPError, match=name):
        read_pickle(tmp_path / "x.pkl")


def test_what_is_let_through_cannot_be_misused(tmp_path):
    path = tmp_path / "x.pkl"
    programs = [
        b"cnumpy\ndtype\n.",  # a type as value
        b"cnumpy\nndarray\n(tR.",  # an array by its class
        b"cnumpy.core.multiarray\n_reconstruct\n}S'__call__'\nI1\nsb.",  # attributes of a function
        b"c_codecs\nencode\n(S'text'\nS'hex'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntRS'12345678'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(tR.",  # an array without content
        b"P1\n.",  # an object outside the file
    ]
    for program in programs:
        path.write_bytes(program)
        with pytest.raises(FIMPError, match=r"x\.pkl"):
            read_pickle(path)
    # It still works afterwards.
    np.testing.assert_array_equal(read_pickle(write(path, np.arange(3))), np.arange(3))


def test_arrays_of_objects_and_records_are_refused(tmp_path):
    for array in (np.array([{}, []], dtype=object), np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])):
        with pytest.raises(FIMPError, match="an array in it"):
            read_pickle(write(tmp_path / "x.pkl", array))


def test_damaged_pickles_are_one_line_errors(tmp_path):
    whole = pickle.dumps({"ACTB": np.arange(50.0), "TP53": [1.0] * 9})
    generator = np.random.default_rng(0)
    path = tmp_path / "x.pkl"
    for cut in (0, 1, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FIMPError, match=r"x\.pkl") as error:
            read_pickle(path)
        assert "\n" not in str(error.value)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[generator.integers(len(damaged))] = generator.integers(256)
        path.write_bytes(damaged)
        # No other error comes out, whatever byte is wrong.
        with contextlib.suppress(FIMPError):
            read_pickle(path)
    with pytest.raises(FIMPError, match=r"nowhere\.pkl"):
        read_pickle(tmp_path / "nowhere.pkl")


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


def test_a_length_beyond_the_file_takes_no_memory(tmp_path):
    stream = io.BytesIO()
    stream.write(b"\x80\x04B" + struct.pack("<I", 2**31 - 1) + b"short")
    (tmp_path / "x.pkl").write_bytes(stream.getvalue())
    with pytest.raises(FIMPError, match=r"x\.pkl"):
        read_pickle(tmp_path / "x.pkl")
