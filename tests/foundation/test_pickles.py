import contextlib
import io
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from fimp.errors import FIMPError
from fimp.foundation.pickles import read_pickle


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


def test_a_length_beyond_the_file_takes_no_memory(tmp_path):
    stream = io.BytesIO()
    stream.write(b"\x80\x04B" + struct.pack("<I", 2**31 - 1) + b"short")
    (tmp_path / "x.pkl").write_bytes(stream.getvalue())
    with pytest.raises(FIMPError, match=r"x\.pkl"):
        read_pickle(tmp_path / "x.pkl")
