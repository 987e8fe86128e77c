import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from torch_geometric.data import Data

from fimp.data import PYG_DATASETS, NodeOptions, read_nodes, write_nodes
from fimp.data.nodes import NodeReference
from fimp.errors import FIMPError

NODES = 20
SHARED = sorted((Path(__file__).parents[3] / "shared" / "data" / "graphs").glob("*.npz"))


def arrays(csr=False, splits=None):
    """A good graph: 20 nodes in a ring, 6 features, 3 classes."""
    generator = np.random.default_rng(0)
    x = np.where(generator.random((NODES, 6)) < 0.5, generator.normal(size=(NODES, 6)), 0).astype(np.float32)
    x[:, 0] = 1.0
    ring = np.arange(NODES)
    edges = np.stack([np.concatenate([ring, np.roll(ring, 1)]), np.concatenate([np.roll(ring, 1), ring])])
    parts = np.array([0] * 10 + [1] * 4 + [2] * 6)
    order = np.stack([generator.permutation(parts) for _ in range(splits or 1)])
    order = order if splits else order[0]
    masks = {f"{part}_mask": order == index for index, part in enumerate(("train", "val", "test"))}
    features = {"x": x}
    if csr:
        m = sparse.csr_matrix(x)
        features = {"x_data": m.data, "x_indices": m.indices, "x_indptr": m.indptr, "x_shape": np.array(m.shape)}
    return {**features, "edge_index": edges, "y": ring % 3, **masks}


def as_data(stored):
    return Data(**{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in stored.items()})


def saved(path, stored):
    np.savez(path, **stored)
    return path


@pytest.mark.parametrize("csr", [False, True])
@pytest.mark.parametrize("splits", [None, 3])
def test_a_file_is_read_as_what_it_is(tmp_path, csr, splits):
    stored = arrays(csr, splits)
    data = read_nodes(saved(tmp_path / "graph.npz", stored))
    assert (data.x.layout == torch.sparse_csr) == csr
    assert np.array_equal(data.x.to_dense().numpy(), arrays()["x"])
    assert np.array_equal(data.edge_index.numpy(), stored["edge_index"])
    assert np.array_equal(data.y.numpy(), stored["y"])
    for name in ("train_mask", "val_mask", "test_mask"):
        assert np.array_equal(data[name].numpy(), stored[name].reshape(-1, NODES))
    assert (data.num_classes, data.num_nodes, data.name) == (3, NODES, str(tmp_path / "graph.npz"))
    assert data.get("pos") is None
    assert any("edge homophily" in note for note in data.notes)
    assert any("published split" in note for note in data.notes)


@pytest.mark.parametrize("layout", ["strided", "coo", "csr"])
@pytest.mark.parametrize("splits", [None, 3])
def test_a_data_in_memory_is_read_and_not_changed(layout, splits):
    source = as_data(arrays(splits=splits))
    if splits:  # as PyG has them
        for name in ("train_mask", "val_mask", "test_mask"):
            source[name] = source[name].T
    dense = source.x.clone()
    source.x = {"strided": dense, "coo": dense.to_sparse_coo(), "csr": dense.to_sparse_csr()}[layout]
    data = read_nodes(source)
    assert data.train_mask.shape == (splits or 1, NODES)
    assert torch.equal(data.x.to_dense(), dense)
    data.edge_index.zero_()
    data.y.zero_()
    if layout == "strided":
        data.x.zero_()
    assert torch.equal(source.x.to_dense(), dense)
    assert source.y.any()
    assert source.edge_index.any()


def test_a_single_mask_holds_for_all_splits():
    # As in WikiCS: many drawings of train and val, one test part.
    source, wanted = as_data(arrays()), arrays()
    for name in ("train_mask", "val_mask"):
        source[name] = source[name][:, None].repeat(1, 4)
    data = read_nodes(source)
    for name in ("train_mask", "val_mask", "test_mask"):
        assert np.array_equal(data[name].numpy(), np.stack([wanted[name]] * 4))
    assert any("4 published splits" in note for note in data.notes)


@pytest.mark.parametrize("splits", [None, 3])
@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist])
def test_masks_of_a_data_may_be_arrays_or_lists(tmp_path, form, splits):
    stored = arrays(splits=splits)
    source = as_data(stored)
    for name in ("train_mask", "val_mask", "test_mask"):
        source[name] = form(stored[name])
    write_nodes(tmp_path / "graph.npz", source)
    for data in (read_nodes(source), read_nodes(tmp_path / "graph.npz")):
        for name in ("train_mask", "val_mask", "test_mask"):
            assert np.array_equal(data[name].numpy(), stored[name].reshape(-1, NODES))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train_mask", torch.ones(NODES).bfloat16(), "Data: train_mask is float32 with other values than 0 and 1"),
        ("train_mask", "first", "Data: train_mask is a str, wanted a tensor, an array or a list"),
        ("val_mask", [[True], [True, False]], "Data: val_mask cannot be read"),
        ("test_mask", torch.ones(NODES).to_sparse(), "Data: test_mask is a tensor of layout torch.sparse_coo"),
        ("y", torch.arange(NODES).bfloat16(), "Data: y has dtype float32, wanted integer classes"),
        ("y", torch.arange(NODES).to_sparse(), "Data: y is a tensor of layout torch.sparse_coo, wanted a dense one"),
        ("edge_index", torch.eye(NODES).to_sparse_csr(), "Data: edge_index is a tensor of layout torch.sparse_csr"),
    ],
)
def test_tensors_that_cannot_be_read_are_named(key, value, words):
    source = as_data(arrays())
    source[key] = value
    with pytest.raises(FIMPError) as error:
        read_nodes(source)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_requires_a_gradient_is_read():
    source = as_data(arrays())
    source.x.requires_grad_()
    source.y = source.y.float().requires_grad_()
    with pytest.raises(FIMPError, match="y has dtype float32"):
        read_nodes(source)


@pytest.mark.parametrize("csr", [False, True])
def test_what_is_written_is_read(tmp_path, csr):
    source = as_data(arrays(splits=2))
    source.x = source.x.to_sparse_csr() if csr else source.x
    write_nodes(tmp_path / "graph", source)
    data, expected = read_nodes(tmp_path / "graph"), read_nodes(source)
    assert data.x.layout == expected.x.layout
    for name in ("edge_index", "y", "train_mask", "test_mask"):
        assert torch.equal(data[name], expected[name])
    assert torch.equal(data.x.to_dense(), expected.x.to_dense())


def test_the_layout_of_the_heterophilous_graphs_is_read(tmp_path):
    stored = arrays(splits=2)
    half = stored["edge_index"][:, :NODES]
    names = {"node_features": stored["x"], "node_labels": stored["y"], "edges": half.T}
    masks = {f"{part}_masks": stored[f"{part}_mask"] for part in ("train", "val", "test")}
    data = read_nodes(saved(tmp_path / "graph.npz", {**names, **masks}))
    assert {*zip(*data.edge_index.tolist(), strict=True)} == {*zip(*stored["edge_index"].tolist(), strict=True)}
    assert np.array_equal(data.val_mask.numpy(), stored["val_mask"])
    with pytest.raises(FIMPError, match=r"node_labels has shape \[19\]"):
        read_nodes(saved(tmp_path / "bad.npz", {**names, **masks, "node_labels": stored["y"][:19]}))


def test_what_deserves_a_remark_gets_one():
    stored = arrays()
    stored["edge_index"] = np.array([[0, 0, 3, 4], [1, 1, 3, 5]])
    stored["y"][stored["y"] == 1] = 2
    stored["y"][[5, 6]] = -1
    stored["x"][7] = 0
    for part in ("train", "val", "test"):
        stored[f"{part}_mask"][[5, 6]] = False
    text = "\n".join(read_nodes(as_data(stored)).notes)
    for words in (
        "1 self-loops",
        "1 edges are repeated",
        "2 edges go one way",
        "class 1 has no node",
        "1 nodes have no",
    ):
        assert words in text
    assert "2 nodes have no label" in text
    both = read_nodes(as_data(stored), NodeOptions(undirected=True))
    assert both.edge_index.T.tolist() == [[0, 1], [0, 1], [3, 3], [4, 5], [1, 0], [5, 4]]
    assert "one way" not in "\n".join(both.notes)


def test_without_masks_nodes_are_split_by_the_task():
    source = as_data(arrays())
    del source.train_mask, source.val_mask, source.test_mask
    data = read_nodes(source)
    assert data.get("train_mask") is None
    assert any("70/10/20" in note for note in data.notes)
    few = source.clone()
    few.y[9:] = -1
    with pytest.raises(FIMPError, match="9 labelled nodes are too few"):
        read_nodes(few)


def test_homophily_of_a_known_graph():
    y = torch.tensor([0, 0, 1, 1, -1] + [0, 1] * 5)
    edges = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 3, 0]])
    data = read_nodes(Data(x=torch.ones(15, 1), edge_index=edges, y=y))
    assert "0.67 of edges join one class" in data.notes[0]


def nan(key):
    def change(stored):
        stored[key] = stored[key].astype(float)
        stored[key].flat[3] = np.nan

    return change


def put(key, value):
    def change(stored):
        stored[key] = value(stored[key])

    return change


def drop(key):
    def change(stored):
        del stored[key]

    return change


def entry(key, place, value):
    def change(stored):
        stored[key] = stored[key].copy()
        stored[key][place] = value

    return change


BAD = {
    "no edges": (drop("edge_index"), "no array 'edge_index', found test_mask, train_mask"),
    "no labels": (drop("y"), "no array 'y'"),
    "no features": (drop("x"), "no array 'x'"),
    "no test mask": (drop("test_mask"), "test_mask is missing; give train, val and test masks, or none"),
    "edges as rows": (
        put("edge_index", lambda e: e.T),
        "edge_index has shape [40, 2], wanted [2, edges]; transpose it",
    ),
    "edges flat": (put("edge_index", lambda e: e[0]), "edge_index has shape [40]"),
    "float edges": (put("edge_index", lambda e: e / 1.0), "edge_index has dtype float64, wanted integers"),
    "edges from 1": (put("edge_index", lambda e: e + 1), "edge_index names nodes 1..20, wanted 0..19"),
    "negative edges": (entry("edge_index", (0, 0), -1), "edge_index names nodes -1..19"),
    "NaN": (nan("x"), "x has 1 values that are NaN"),
    "beyond float32": (put("x", lambda x: x.astype(float) * 1e300), "values that are NaN, infinite or beyond float32"),
    "flat features": (put("x", lambda x: x[:, 0]), "x has shape [20], wanted [nodes, features]"),
    "no feature": (put("x", lambda x: x[:, :0]), "x has shape [20, 0]"),
    "text": (put("x", lambda x: x.astype(str)), "x has dtype <U"),
    "complex": (put("x", lambda x: x + 0j), "x has dtype complex64, wanted numbers"),
    "zeros": (put("x", lambda x: x * 0), "x: every value is zero"),
    "labels short": (put("y", lambda y: y[:-1]), "y has shape [19], wanted [20]"),
    "several labels": (put("y", lambda y: np.eye(3)[y]), "y has shape [20, 3]"),
    "float labels": (put("y", lambda y: y / 1.0), "y has dtype float64, wanted integer classes"),
    "label -2": (entry("y", 0, -2), "y has the class -2"),
    "one class": (put("y", lambda y: y * 0), "y has 1 class(es)"),
    "wild labels": (entry("y", 0, 10**9), "y has the class 1000000000 for 20 nodes"),
    "unlabelled in a part": (put("y", lambda y: y - 1), "_mask selects"),
    "mask of numbers": (put("train_mask", np.flatnonzero), "train_mask has shape [1, 10], wanted [20]"),
    "mask of floats": (put("val_mask", lambda m: m / 1.0), "val_mask is float64"),
    "mask of sevens": (put("val_mask", lambda m: m * 7), "val_mask is int64 with other values than 0 and 1"),
    "other splits": (
        lambda stored: stored.update(
            val_mask=np.stack([stored["val_mask"]] * 2), test_mask=np.stack([stored["test_mask"]] * 3)
        ),
        "different numbers of splits (train_mask 1, val_mask 2, test_mask 3",
    ),
    "empty part": (put("val_mask", lambda m: m & False), "val_mask of split 0 selects no node"),
    "overlap": (put("val_mask", lambda m: m | True), "train_mask and val_mask share 10 nodes"),
}
BAD_CSR = {
    "part missing": (drop("x_indptr"), "no array 'x_indptr'"),
    "short indptr": (put("x_indptr", lambda p: p[:-1]), "x_indptr has 20 entries, wanted 21"),
    "falling indptr": (entry("x_indptr", 3, 0), "x_indptr does not rise from 0"),
    "long data": (put("x_data", lambda d: np.append(d, 1.0)), "x_data has shape"),
    "indices beyond": (entry("x_indices", 0, 6), "x_indices run 0..6, wanted 0..5"),
    "negative indices": (entry("x_indices", 0, -1), "x_indices run -1..5"),
    "float indices": (put("x_indices", lambda i: i / 1.0), "x_indices is float64"),
    "three sizes": (put("x_shape", lambda s: np.append(s, 1)), "x_shape is [20, 6, 1]"),
    "NaN": (nan("x_data"), "x has 1 values that are NaN"),
}


@pytest.mark.parametrize(
    ("csr", "change", "words"),
    [(False, *case) for case in BAD.values()] + [(True, *case) for case in BAD_CSR.values()],
    ids=[*BAD, *(f"csr {name}" for name in BAD_CSR)],
)
def test_bad_arrays_are_refused_by_name(tmp_path, csr, change, words):
    stored = arrays(csr)
    change(stored)
    path = saved(tmp_path / "graph.npz", stored)
    with pytest.raises(FIMPError) as error:
        read_nodes(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def whole(path):
    return saved(path, arrays()).read_bytes()


class Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return sys.exit, ("unpickled",)


BAD_FILES = {
    "absent": (lambda path: None, "no such file; pass an .npz file or one of Cora"),
    "folder": (lambda path: path.mkdir(), "is a directory"),
    "empty": (lambda path: path.touch(), "not an .npz archive, or truncated"),
    "text": (lambda path: path.write_text("node,feature\n" * 99), "not an .npz archive"),
    "truncated": (lambda path: path.write_bytes(whole(path)[:900]), "not an .npz archive, or truncated"),
    "damaged": (lambda path: path.write_bytes(whole(path).replace(b"NUMPY", b"NVMPY")), "cannot be read"),
    "one array": (lambda path: np.save(path.open("wb"), arrays()["x"]), "not an .npz archive"),
    "objects": (lambda path: saved(path, {**arrays(), "y": np.array([Trap()] * NODES)}), "y holds Python objects"),
    "other archive": (lambda path: saved(path, {"a": np.ones(3)}), "no array 'edge_index', found a"),
}


@pytest.mark.parametrize(("make", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused(tmp_path, make, words):
    path = tmp_path / "graph.npz"
    make(path)
    with pytest.raises(FIMPError) as error:
        read_nodes(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_a_pickle_is_refused_with_the_way_out(tmp_path):
    torch.save(arrays(), tmp_path / "graph.pt")
    with pytest.raises(FIMPError, match=r"a pickle can run code .* fimp\.data\.write_nodes"):
        read_nodes(tmp_path / "graph.pt")


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(FIMPError):
        read_nodes("x" * 5000)


def test_a_data_without_features_is_refused():
    with pytest.raises(FIMPError, match="Data: x is missing"):
        read_nodes(Data(edge_index=torch.zeros(2, 0, dtype=torch.int64), y=torch.arange(3)))
    with pytest.raises(FIMPError, match="Data: y is a list"):
        read_nodes(Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0, dtype=torch.int64), y=[0, 1]))


@pytest.mark.parametrize("name", ["Cora", "texas", "MINESWEEPER", "actor"])
def test_a_name_is_a_dataset_of_pyg(monkeypatch, tmp_path, name):
    import torch_geometric.datasets

    known = {key.lower(): key for key in PYG_DATASETS}[name.lower()]
    kind, arguments = PYG_DATASETS[known]
    asked = {}

    class Stub(list):
        def __init__(self, root, **more):
            asked.update(more, root=root)
            super().__init__([as_data(arrays())])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch_geometric.datasets, kind, Stub)
    data = read_nodes(name)
    assert data.name == known
    assert asked.pop("root").endswith(f"pyg/{kind}")
    assert asked == arguments


def test_every_name_has_a_class():
    import torch_geometric.datasets

    assert all(hasattr(torch_geometric.datasets, kind) for kind, _ in PYG_DATASETS.values())


def test_a_failed_download_is_one_line(monkeypatch):
    import torch_geometric.datasets

    def fail(root, **more):
        raise OSError("Name or service not known\nmore")

    monkeypatch.setattr(torch_geometric.datasets, "WebKB", fail)
    with pytest.raises(FIMPError, match=r"Texas: PyG's WebKB cannot be had \(OSError: Name or service not known\)"):
        read_nodes("Texas")


@pytest.mark.skipif(not SHARED, reason="shared data are not here")
@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_real_graphs_are_read_as_what_they_are(path):
    # Nodes, edges, features, classes, splits and edge homophily, from the description of the data.
    expected = {
        "cora": (2708, 10556, 1433, 7, 1, "0.81"),
        "texas": (183, 558, 1703, 5, 10, "0.06"),
        "cornell": (183, 554, 1703, 5, 10, "0.12"),
        "actor": (7600, 53318, 932, 5, 10, "0.22"),
        "chameleon_filtered": (890, 17708, 2325, 5, 10, "0.24"),
        "minesweeper": (10000, 78804, 7, 2, 10, "0.68"),
    }[path.stem]
    data = read_nodes(path)
    found = (data.num_nodes, data.edge_index.size(1), data.x.size(1), data.num_classes, len(data.train_mask))
    assert found == expected[:5]
    assert f"{expected[5]} of edges join one class" in data.notes[0]
    assert not any("one way" in note or "repeated" in note for note in data.notes)


def test_another_graph_is_read_for_a_trained_model(tmp_path):
    stored = arrays()
    reference = read_nodes(as_data(stored)).reference
    assert reference == NodeReference(stored["x"].shape[1], int(stored["y"].max()) + 1)
    bare = saved(tmp_path / "bare.npz", {key: stored[key] for key in ("x", "edge_index")})
    names = {"node_features": stored["x"], "edges": stored["edge_index"].T}
    for source in (bare, saved(tmp_path / "other.npz", names)):
        data = read_nodes(source, reference=reference)
        assert (data.y == -1).all()
        assert data.num_classes == reference.classes
        assert data.get("train_mask") is None
        with pytest.raises(FIMPError, match="no array"):
            read_nodes(source)
    with pytest.raises(FIMPError, match="features, but the model was trained on 99"):
        read_nodes(bare, reference=NodeReference(99, 3))
