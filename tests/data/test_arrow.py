import sys

import numpy as np
import pytest

from fimp.data.recordings import read_recordings
from fimp.errors import FIMPError

R, T = 6, 30
RNG = np.random.default_rng(0)
SIGNALS = [RNG.standard_normal((T, R)).astype(np.float32) for _ in range(3)]


def write(path, **columns):
    """A table as ``datasets`` stores it: a stream of record batches."""
    pyarrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=1)
    return path


def coordinates(folder, **changes):
    columns = {"Index": np.arange(R, 0, -1), "X": np.arange(R) * 1.0, "Y": np.arange(R) * 2.0, "Z": np.arange(R) * 3.0}
    return write(folder / "Brain_Region_Coordinates" / "data-00000-of-00001.arrow", **columns | changes)


@pytest.fixture
def folder(tmp_path):
    coordinates(tmp_path)
    rows = [signal.tolist() for signal in SIGNALS]
    write(tmp_path / "train" / "data-00000-of-00001.arrow", Raw_Recording=rows[:2], Filename=["1.dat", "2.dat"],
          **{"Patient ID": ["", ""]})  # fmt: skip
    write(tmp_path / "val" / "data-00000-of-00001.arrow", Raw_Recording=rows[2:], Filename=["3.dat"],
          **{"Patient ID": ["p3"]})  # fmt: skip
    return tmp_path


def test_the_layout_of_brainlm_is_read(folder):
    found = read_recordings(folder)
    assert [item.name for item in found.recordings] == [
        str(folder / name) for name in ("train/1.dat", "train/2.dat", "val/3.dat")
    ]
    assert [item.subject for item in found.recordings] == ["1", "2", "p3"]
    for item, signal in zip(found.recordings, SIGNALS, strict=True):
        np.testing.assert_array_equal(item.signal, signal.T)
    assert found.regions.names == ("1", "2", "3", "4", "5", "6")
    assert found.regions.xyz[0].tolist() == [5, 10, 15]
    assert "parts of BrainLM's layout were put together, to be split anew" in found.notes


def test_a_square_recording_is_time_by_regions(folder):
    write(folder / "val" / "data-00000-of-00001.arrow", Raw_Recording=[SIGNALS[0][:R].tolist()])
    square = read_recordings(folder).recordings[2]
    np.testing.assert_array_equal(square.signal, SIGNALS[0][:R].T)
    assert square.subject == "row 0"


def test_recordings_of_the_toolkit_are_regions_by_time(folder):
    write(folder / "val" / "data-00000-of-00001.arrow", Raw_Recording=[SIGNALS[2].T.tolist()])
    np.testing.assert_array_equal(read_recordings(folder).recordings[2].signal, SIGNALS[2].T)


def test_regions_may_have_another_table(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("table") / "regions.csv"
    table.write_text("name,x,y,z\n" + "".join(f"r{row},0,0,{row}\n" for row in range(R)))
    assert read_recordings(folder, table).regions.names[2] == "r2"


ROWS = SIGNALS[0].tolist()
BAD = {
    "no-column": (lambda f: write(f / "val" / "a.arrow", signal=[[[1.0]]]), "no column 'Raw_Recording', found signal"),
    "ragged": (lambda f: write(f / "val" / "a.arrow", Raw_Recording=[[[1.0, 2.0], [1.0]]]), "have different lengths"),
    "empty": (lambda f: write(f / "val" / "a.arrow", Raw_Recording=[None, ROWS]), "have different lengths"),
    "text": (lambda f: write(f / "val" / "a.arrow", Raw_Recording=[[["a", "b"]]]), "a.arrow: "),
    "flat": (lambda f: write(f / "val" / "a.arrow", Raw_Recording=[1.0]), "a.arrow: "),
    "regions": (lambda f: write(f / "val" / "a.arrow", Raw_Recording=[[[1.0] * 5] * 9]), r"wanted \[6, time\]"),
    "nan": (lambda f: coordinates(f, X=[np.nan] * R), "a coordinate is no finite number"),
    "no-z": (lambda f: coordinates(f).rename(f / "Brain_Region_Coordinates" / "b.txt"), "0 .arrow files, wanted one"),
    "damaged": (lambda f: (f / "val" / "a.arrow").write_bytes(b"nothing" * 50), "a.arrow: "),
    "truncated": (lambda f: cut(f / "train" / "data-00000-of-00001.arrow"), "data-00000-of-00001.arrow: "),
}  # fmt: skip


def cut(path):
    path.write_bytes(path.read_bytes()[:-700])


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line(folder, kind):
    break_it, words = BAD[kind]
    break_it(folder)
    with pytest.raises(FIMPError, match=words) as error:
        read_recordings(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_a_folder_of_coordinates_alone(tmp_path):
    coordinates(tmp_path)
    with pytest.raises(FIMPError, match="no recordings; wanted folders with"):
        read_recordings(tmp_path)


def test_without_the_package_the_error_says_what_to_do(run_cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "data" / "Brain_Region_Coordinates").mkdir(parents=True)
    (tmp_path / "data" / "Brain_Region_Coordinates" / "a.arrow").write_bytes(b"")
    code, _, err = run_cli("compare", "fmri", "--data", tmp_path / "data", "--out", tmp_path / "o")
    assert code == 2
    assert err.count("\n") == 1
    assert "pip install 'fimp[arrow]'" in err
