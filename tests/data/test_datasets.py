import functools
import hashlib
import http.server
import io
import tarfile
import threading

import h5py
import numpy as np
import pytest
from scipy import sparse

from fimp.data import datasets
from fimp.data.cells import load_cells
from fimp.data.h5ad import close
from fimp.errors import FIMPError

CONTENT = b"published bytes"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache, somewhere else."""
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache"


@pytest.fixture
def published(tmp_path, monkeypatch, cache):
    """A local server in the place of squidpy's."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "data.h5ad").write_bytes(CONTENT)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setattr(datasets, "_SQUIDPY", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_download_with_the_right_hash_is_kept_and_not_fetched_twice(published, cache):
    path = datasets._download("data.h5ad", sha256(CONTENT))
    assert path.read_bytes() == CONTENT
    assert files_below(cache) == [path]
    # Gone from the server, still in the cache.
    (published / "data.h5ad").unlink()
    assert datasets._download("data.h5ad", sha256(CONTENT)) == path


def test_a_download_with_a_wrong_hash_is_refused_and_leaves_nothing_behind(published, cache):
    with pytest.raises(FIMPError, match=r"data.h5ad: the download's SHA-256 is not"):
        datasets._download("data.h5ad", sha256(b"other bytes"))
    assert files_below(cache) == []


def test_a_cached_file_that_was_changed_is_not_used(published, cache):
    path = datasets._download("data.h5ad", sha256(CONTENT))
    path.write_bytes(b"tampered")
    assert datasets._download("data.h5ad", sha256(CONTENT)).read_bytes() == CONTENT


def test_a_file_that_the_server_lacks_is_an_error_of_one_line(published, cache):
    with pytest.raises(FIMPError, match=r"gone.h5ad: cannot be downloaded .*pass the file"):
        datasets._download("gone.h5ad", sha256(CONTENT))
    assert files_below(cache) == []


@pytest.mark.parametrize("name", ["slideseqv2", "seqfish", "visium_heart"])
def test_without_a_network_named_downloads_say_so(name, monkeypatch, cache):
    # Nothing listens on the discard port.
    monkeypatch.setattr(datasets, "_SQUIDPY", "http://127.0.0.1:9/")
    with pytest.raises(FIMPError, match=r"cannot be downloaded \(ConnectionError\); connect to a network"):
        datasets.load_dataset(name)
    assert files_below(cache) == []


def test_every_download_is_checked_by_a_sha256(monkeypatch):
    asked = {}

    def record(file, hash_):
        asked[file] = hash_
        raise FIMPError("stop")

    monkeypatch.setattr(datasets, "_download", record)
    for dataset in datasets.DATASETS.values():
        if dataset.origin == "download":
            with pytest.raises(FIMPError, match="stop"):
                dataset.load()
    assert len(asked) == 3
    assert all(len(value) == 64 and int(value, 16) for value in asked.values())


def test_the_names_of_the_issue_are_there():
    assert set(datasets.DATASETS) >= {"simulated", "pbmc68k_reduced", "slideseqv2", "seqfish", "visium_heart"}
    assert all(name == dataset.name for name, dataset in datasets.DATASETS.items())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(FIMPError, match=r"mystery: no dataset.*simulated, pbmc68k_reduced"):
        datasets.load_dataset("mystery")


def test_simulated_has_the_size_that_the_list_states():
    assert datasets.load_dataset("simulated").shape == (3000, 24)


def test_pbmc68k_reduced_comes_from_scanpy_and_uses_raw():
    pytest.importorskip("scanpy")
    adata = datasets.load_dataset("pbmc68k_reduced")
    data = load_cells(adata)
    assert tuple(data.x.shape) == (700, 765)
    # Its X is scaled; raw holds non-negative values.
    assert any("used raw" in note for note in data.notes)
    assert data.x.values().min() > 0
    close(adata)


def test_pbmc68k_reduced_without_scanpy_names_the_extra(monkeypatch):
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FIMPError, match=r"pip install 'fimp\[scanpy\]'"):
        datasets.load_dataset("pbmc68k_reduced")


BARCODES = ["AAA-1", "CCC-1", "GGG-1"]
COUNTS = np.array([[1, 0, 2, 0], [0, 3, 0, 0], [5, 0, 0, 7]])
#: barcode, in_tissue, row, column, pixel row (y), pixel column (x); one spot is outside of the tissue.
SPOTS = [
    ("GGG-1", 1, 0, 0, 30, 300),
    ("TTT-1", 0, 0, 1, 0, 0),
    ("AAA-1", 1, 1, 0, 10, 100),
    ("CCC-1", 1, 1, 1, 20, 200),
]


def write_visium(folder, positions_name, header):
    """A section as 10x publishes it: genes x cells in CSC, spots in another order than the counts."""
    with h5py.File(folder / "counts.h5", "w") as file:
        matrix = sparse.csc_matrix(COUNTS.T)
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"] = np.array(matrix.shape)
        group["barcodes"] = np.array(BARCODES, "S")
        group.create_group("features")["name"] = np.array(["Myh6", "Tnnt2", "Myh6", "Actc1"], "S")
    lines = [",".join(map(str, spot)) for spot in SPOTS]
    if header:
        lines.insert(0, "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres")
    content = "\n".join(lines).encode()
    with tarfile.open(folder / "spatial.tar.gz", "w:gz") as archive:
        for name, data in (("spatial/scalefactors_json.json", b"{}"), (f"spatial/{positions_name}", content)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return folder / "counts.h5", folder / "spatial.tar.gz"


@pytest.mark.parametrize(
    ("name", "header"), [("tissue_positions_list.csv", False), ("tissue_positions.csv", True)], ids=["old", "new"]
)
def test_visium_joins_counts_and_spots_by_barcode(tmp_path, name, header):
    adata = datasets.read_visium(*write_visium(tmp_path, name, header))
    assert list(adata.obs_names) == BARCODES
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    # x is the pixel column, y the pixel row.
    np.testing.assert_array_equal(adata.obsm["spatial"], [[100, 10], [200, 20], [300, 30]])
    assert list(adata.var_names) == ["Myh6", "Tnnt2", "Myh6-1", "Actc1"]
