import csv
import pickle

import h5py
import numpy as np
import pytest
from scipy import io

from fimp.data.recordings import read_recordings
from fimp.data.simulate import recording
from fimp.errors import FIMPError

R, T = 5, 40
SIGNAL = recording(n_regions=R, n_times=T).signal


def write_regions(folder, count=R, **columns):
    xyz = np.arange(3 * count).reshape(count, 3)
    columns = {"name": [f"r{row}" for row in range(count)], "x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2]} | columns
    with (folder / "regions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


@pytest.fixture
def folder(tmp_path):
    write_regions(tmp_path)
    return tmp_path


def text(path, rows, separator=","):
    path.write_text("\n".join(separator.join(map(str, row)) for row in rows) + "\n")


def numbers():
    return [[float(value) for value in row] for row in SIGNAL]


def mat(path, **arrays):
    io.savemat(path, arrays)


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


WRITERS = {
    "npz": lambda f: np.savez(f / "a.npz", signal=SIGNAL),
    "npz-one-matrix": lambda f: np.savez(f / "a.npz", bold=SIGNAL, when=3),
    "npz-turned": lambda f: np.savez(f / "a.npz", signal=SIGNAL.T),
    "npy": lambda f: np.save(f / "a.npy", SIGNAL),
    "csv": lambda f: text(f / "a.csv", numbers()),
    "csv-turned": lambda f: text(f / "a.csv", zip(*numbers(), strict=True)),
    "csv-head": lambda f: text(f / "a.csv", [[f"t{time}" for time in range(T)], *numbers()]),
    "csv-numbered-head": lambda f: text(f / "a.csv", [range(T), *numbers()]),
    "csv-index": lambda f: text(f / "a.csv", [[f"r{row}", *values] for row, values in enumerate(numbers())]),
    "csv-pandas": lambda f: text(f / "a.csv", [["", *range(T)], *[[i, *v] for i, v in enumerate(numbers())]]),
    "csv-names": lambda f: text(f / "a.csv", [["id", *range(T)], *[[f"r{i}", *v] for i, v in enumerate(numbers())]]),
    "csv-index-from-1": lambda f: text(f / "a.csv", [[i + 1, *values] for i, values in enumerate(numbers())]),
    "tsv": lambda f: text(f / "a.tsv", numbers(), "\t"),
    "mat": lambda f: mat(f / "a.mat", signal=SIGNAL, other=SIGNAL),
    "mat-one-matrix": lambda f: mat(f / "a.mat", bold=SIGNAL, tr=2.0, note="text"),
    "h5": lambda f: hdf5(f / "a.h5", signal=SIGNAL, other=SIGNAL),
    "hdf5-nested": lambda f: hdf5(f / "a.hdf5", **{"run/bold": SIGNAL, "tr": 2.0}),
    "h5-turned": lambda f: hdf5(f / "a.h5", signal=SIGNAL.T),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_signal(folder, kind):
    WRITERS[kind](folder)
    found = read_recordings(folder)
    assert len(found.recordings) == 1
    np.testing.assert_allclose(found.recordings[0].signal, SIGNAL, rtol=1e-6)
    assert found.recordings[0].subject == "a"
    assert any("transposed" in note for note in found.notes) == (kind in ("npz-turned", "csv-turned", "h5-turned"))
    assert found.regions.names == tuple(f"r{row}" for row in range(R))
    assert found.regions.xyz.tolist() == np.arange(3 * R).reshape(R, 3).tolist()


def test_a_matlab_file_of_version_7_3_is_read_in_matlabs_order(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise NotImplementedError("Please use HDF reader for matlab v7.3 files")

    monkeypatch.setattr(io, "loadmat", refuse)
    hdf5(folder / "a.mat", signal=SIGNAL[:, :R].T)
    found = read_recordings(folder)
    np.testing.assert_array_equal(found.recordings[0].signal, SIGNAL[:, :R])
    assert "1 files have as many volumes as regions; rows were taken for regions" in found.notes


def test_what_files_say_beside_the_signal_is_kept(folder):
    other = recording(n_regions=R, n_times=60, subject=1).signal
    third = recording(n_regions=R, n_times=60, subject=2).signal
    np.savez(folder / "a.npz", signal=SIGNAL, tr=2.0, subject="NAP_1", dataset="gw")
    hdf5(folder / "b.h5", signal=other, tr=0.72, subject="NAP_1")
    np.save(folder / "sub-07_run-2.npy", third)
    found = read_recordings(folder)
    assert [(item.subject, item.tr, item.dataset) for item in found.recordings] == [
        ("NAP_1", 2.0, "gw"), ("NAP_1", 0.72, None), ("sub-07", None, None)
    ]  # fmt: skip
    assert found.subjects.tolist() == [0, 0, 1]
    assert [item.signal.shape[1] for item in found.recordings] == [T, 60, 60]
    assert any("repetition times differ (0.72, 2 s)" in note for note in found.notes)


def test_files_and_lists_of_files(folder, tmp_path_factory):
    np.save(folder / "a.npy", SIGNAL)
    np.save(folder / "b.npy", SIGNAL + np.arange(T))
    assert len(read_recordings(folder / "b.npy").recordings) == 1
    assert len(read_recordings([folder / "a.npy", str(folder / "b.npy")]).recordings) == 2
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "atlas.csv"
    (folder / "regions.csv").rename(elsewhere)
    assert len(read_recordings(folder, elsewhere).recordings) == 2


def test_an_index_orders_the_regions(folder):
    np.save(folder / "a.npy", SIGNAL)
    write_regions(folder, index=[3, 1, 2, 9, 5], network=list("abcde"))
    regions = read_recordings(folder).regions
    assert regions.names == ("r1", "r2", "r0", "r4", "r3")
    assert regions.networks == ("b", "c", "a", "e", "d")
    assert regions.xyz[:, 0].tolist() == [3, 6, 0, 12, 9]


def test_regions_without_signal_are_reported(folder):
    signal = SIGNAL.copy()
    signal[1], signal[3, 7] = 812.0, np.nan
    np.save(folder / "a.npy", signal)
    assert "a.npy: 2 regions, constant or with NaN, count as zero (r1, r3)" in read_recordings(folder).notes
    for number in range(1, 8):
        np.save(folder / f"b{number}.npy", signal + number * np.arange(T))
    assert read_recordings(folder).notes[-1] == "3 more recordings have such regions"


class Danger:
    def __reduce__(self):
        return (print, ("executed",))


BAD = {
    "no-regions": (lambda f: (f / "regions.csv").unlink(), "regions.csv: no table of regions beside the recordings"),
    "no-files": (lambda f: (f / "a.npy").unlink(), "no recordings; wanted files of type .npz"),
    "wrong-count": (lambda f: write_regions(f, 6), r"a.npy: signal has shape \[5, 40\], wanted \[6, time\]"),
    "no-z": (lambda f: (f / "regions.csv").write_text("x,y\n1,2\n"), "no column 'z', found x, y"),
    "bad-x": (lambda f: write_regions(f, x=[1, 2, "left", 4, 5]), "column 'x' has 'left' for region 2"),
    "nan-x": (lambda f: write_regions(f, x=[1, 2, "nan", 4, 5]), "column 'x' has 'nan' for region 2"),
    "index-twice": (lambda f: write_regions(f, index=[1, 2, 2, 4, 5]), "'index' stand twice"),
    "empty-table": (lambda f: (f / "regions.csv").write_text(""), "empty, wanted a table"),
    "binary-table": (lambda f: (f / "regions.csv").write_bytes(b"\xff\xfe\x00x"), "cannot be read as a table"),
    "pickled-npz": (lambda f: np.savez(f / "b.npz", signal=np.array([Danger()], dtype=object)), "Python objects"),
    "pickled-npy": (lambda f: np.save(f / "b.npy", np.array([Danger()], dtype=object)), "Python objects"),
    "pickle": (lambda f: (f / "b.npy").write_bytes(pickle.dumps(Danger())), "Python objects"),
    "no-zip": (lambda f: (f / "b.npz").write_bytes(b"nothing"), "not an .npz archive"),
    "no-mat": (lambda f: (f / "b.mat").write_bytes(b"nothing" * 40), "b.mat: damaged or of another format"),
    "no-h5": (lambda f: (f / "b.h5").write_bytes(b"nothing"), "b.h5: cannot be opened"),
    "ragged": (lambda f: (f / "b.csv").write_text("1,2,4\n4,5\n"), "row 2 has 2 columns and row 1 has 3"),
    "word": (lambda f: text(f / "b.csv", [*numbers()[:4], [1.0, "far", *numbers()[4][2:]]]), "'far' stands in row 5"),
    "three-axes": (lambda f: np.save(f / "b.npy", SIGNAL[None]), r"has shape \[1, 5, 40\]"),
    "complex": (lambda f: np.save(f / "b.npy", SIGNAL * 1j), "wanted real numbers"),
    "several": (lambda f: np.savez(f / "b.npz", a=SIGNAL, b=SIGNAL), r"several matrices \(a, b\)"),
    "none": (lambda f: mat(f / "b.mat", tr=2.0), "no matrix of numbers and none named signal"),
    "bad-tr": (lambda f: np.savez(f / "b.npz", signal=SIGNAL, tr=-1.0), "tr is -1.0, wanted seconds per volume"),
    "twice": (lambda f: np.savez(f / "b.npz", signal=SIGNAL), "b.npz: holds the same signal as"),
    "all-nan": (lambda f: np.save(f / "b.npy", SIGNAL * np.nan), "b.npy: all regions are constant or have NaN"),
    "one-volume": (lambda f: np.save(f / "b.npy", SIGNAL[:, :1]), "1 volumes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line(folder, kind, capsys):
    np.save(folder / "a.npy", SIGNAL)
    break_it, message = BAD[kind]
    break_it(folder)
    with pytest.raises(FIMPError, match=message) as caught:
        read_recordings(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["npz", "mat", "h5"])
def test_a_truncated_file_is_one_line(folder, suffix):
    write = {"npz": np.savez, "mat": mat, "h5": hdf5}[suffix]
    path = folder / f"a.{suffix}"
    write(path, signal=SIGNAL)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(FIMPError, match=f"a.{suffix}: ") as caught:
        read_recordings(folder)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(folder):
    with pytest.raises(FIMPError, match=r"b\.npy: no such file"):
        read_recordings(folder / "b.npy")
    (folder / "a.nii").write_bytes(b"")
    with pytest.raises(FIMPError, match=r"files of type '\.nii' are not read; an image of voxels needs a label image"):
        read_recordings(folder / "a.nii")
    np.save(folder / "a.npy", SIGNAL)
    with pytest.raises(FIMPError, match=r"none\.csv: no table of regions there"):
        read_recordings(folder, folder / "none.csv")


@pytest.mark.parametrize("suffix", ["npz", "mat", "h5"])
def test_connections_between_regions_are_kept(folder, suffix):
    links = np.random.default_rng(0).random((R, R))
    links[0, 1] = np.nan
    path = folder / f"a.{suffix}"
    {"npz": np.savez, "mat": mat, "h5": hdf5}[suffix](path, bold=SIGNAL, structural=links)
    (item,) = read_recordings(folder).recordings
    np.testing.assert_allclose(item.signal, SIGNAL)
    np.testing.assert_allclose(item.structural, np.nan_to_num(links))


@pytest.mark.parametrize(
    ("links", "words"), [(np.ones((R, R + 1)), "wanted real numbers"), (np.ones((2, 2)), "2 regions and signal 5")]
)
def test_connections_that_do_not_fit_are_one_line(folder, links, words):
    np.savez(folder / "a.npz", signal=SIGNAL, structural=links)
    with pytest.raises(FIMPError, match=words) as error:
        read_recordings(folder)
    assert "\n" not in str(error.value)
