import csv

import anndata
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import fimp


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    fimp.data.simulate.tissue(n_cells=80, n_genes=18, n_pairs=4).write_h5ad(folder / "train.h5ad")
    table = fimp.data.simulate.images(folder / "images", n_places=60, labelled=1.0)
    fimp.data.write_nodes(folder / "graph.npz", graph(60))
    scans = fimp.data.simulate.recordings(folder / "scans", n_subjects=3, n_regions=8, n_times=60)
    common = {"dim": 16, "epochs": 2, "batch_size": 32}
    pixels = {**common, "image_size": 16, "patch_size": 8, "split_by": "region"}
    models = {
        "expression": fimp.ExpressionModel(folder / "train.h5ad", **common),
        "celltype": fimp.CellTypeModel(folder / "train.h5ad", label="cell_type", model="gcn", **common),
        "mean": fimp.ExpressionModel(folder / "train.h5ad", model="mean"),
        "image": fimp.ImageModel(table, **pixels),
        "image-mean": fimp.ImageModel(table, model="mean", **pixels),
        "fmri": fimp.RecordingModel(scans, window=20, patch=5, neighbors=3, **common),
        "gaussian": fimp.RecordingModel(scans, model="gaussian", window=20, patch=5, neighbors=3),
        "node": fimp.NodeModel(folder / "graph.npz", model="sage", **common),
    }
    for name, model in models.items():
        model.fit().save(folder / name)
    # What a model was trained on is not needed to use it on other data.
    for path in (folder / "train.h5ad", table, folder / "graph.npz", *scans.iterdir()):
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "other.h5ad"
    adata = fimp.data.simulate.tissue(n_cells=50, n_genes=18, n_pairs=4, seed=5)
    adata.layers["kept"] = adata.X
    adata[:, 3:].copy().write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of which one is broken, ten have a label that the model knows, and five one that it does not."""
    table = fimp.data.simulate.images(tmp_path_factory.mktemp("data"), n_places=45, labelled=1.0, seed=5)
    with table.open(newline="") as file:
        rows = [row[:4] for row in csv.reader(file)]
    rows = [[*row[:3], row[3] if index <= 10 else "elsewhere" if index <= 15 else ""] for index, row in enumerate(rows)]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (table.parent / rows[-1][0]).write_bytes(b"nothing")
    return table


@pytest.fixture(scope="module")
def bare(images):
    """The same images without labels."""
    with images.open(newline="") as file:
        rows = [row[:3] for row in csv.reader(file)]
    with (images.parent / "bare.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return images.parent / "bare.csv"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A graph without labels."""
    found, path = graph(40), tmp_path_factory.mktemp("data") / "nodes.npz"
    np.savez(path, x=found.x.numpy(), edge_index=found.edge_index.numpy())
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return fimp.data.simulate.recordings(tmp_path_factory.mktemp("data"), n_subjects=2, n_regions=8, n_times=50)


def graph(count):
    edges = torch.stack([torch.arange(count), torch.arange(count).roll(1)])
    return Data(x=torch.rand(count, 6), edge_index=edges, y=torch.arange(count) % 3)


@pytest.mark.parametrize("task", ["expression", "celltype"])
def test_cells_of_another_file_are_embedded(run_cli, runs, tissue, tmp_path, task):
    out = tmp_path / "out.h5ad"
    before = tissue.read_bytes()
    code, text, err = run_cli("embed", runs / task, "--data", tissue, "--out", out)
    assert (code, err) == (0, "")
    assert "3 of the model's 18" in text
    adata = anndata.read_h5ad(out)
    assert adata.obsm["X_fimp"].shape == (50, 16)
    assert np.isfinite(adata.obsm["X_fimp"]).all()
    assert np.array_equal(adata.obsm["X_fimp"], fimp.load(runs / task, tissue).embed())
    assert "kept" in adata.layers
    assert ("fimp_prediction" in adata.obs) == (task == "celltype")
    assert tissue.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5ad"]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_cells_that_do_not_fit_memory_are_embedded_to_the_same_digits(
    run_cli, runs, tissue, tmp_path, monkeypatch, suffix
):
    adata = anndata.read_h5ad(tissue)
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    (adata.write_zarr if suffix == ".zarr" else adata.write_h5ad)(source)
    wanted = fimp.load(runs / "celltype", tissue)
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", "1")
    code, text, err = run_cli("embed", runs / "celltype", "--data", source, "--out", out)
    assert (code, err) == (0, "")
    assert "stay on disk" in text
    found = (anndata.read_zarr if suffix == ".zarr" else anndata.read_h5ad)(out)
    assert np.array_equal(found.obsm["X_fimp"], wanted.embed())
    assert list(found.obs["fimp_prediction"]) == list(wanted.predict())
    np.testing.assert_array_equal(found.layers["kept"].toarray(), adata.layers["kept"].toarray())
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, out.name]


def test_a_store_that_cannot_be_written_whole_leaves_nothing(run_cli, runs, tissue, tmp_path, monkeypatch):
    anndata.read_h5ad(tissue).write_zarr(tmp_path / "in.zarr")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fimp.data.annotated._add", fail)
    code, _, err = run_cli("embed", runs / "expression", "--data", tmp_path / "in.zarr", "--out", tmp_path / "o.zarr")
    assert code == 2
    assert "cannot be written" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def test_other_images_are_embedded(run_cli, runs, images, tmp_path):
    out = tmp_path / "out.h5ad"
    code, text, err = run_cli("embed", runs / "image", "--data", images, "--out", out)
    assert (code, err) == (0, "")
    assert "1 images left out" in text
    assert "5 images have a class that the model does not know (elsewhere)" in text
    assert "44 images" in text
    adata, model = anndata.read_h5ad(out), fimp.load(runs / "image", images)
    assert list(adata.obs) == ["path", "latitude", "longitude", "label", "fimp_prediction"]
    # The last of the table is broken.
    with images.open(newline="") as file:
        rows = list(csv.DictReader(file))[:-1]
    assert list(adata.obs["path"]) == [row["path"] for row in rows]
    np.testing.assert_array_equal(adata.obs["latitude"], [float(row["latitude"]) for row in rows])
    assert list(adata.obs["label"][:10]) == [row["label"] for row in rows[:10]]
    assert adata.obs["label"][10:].isna().all()
    assert np.array_equal(adata.obsm["X_fimp"], model.embed())
    assert list(adata.obs["fimp_prediction"]) == list(model.predict())
    sender, receiver = model.data.edge_index.numpy()
    assert adata.obsp["spatial_connectivities"].nnz == len(sender)
    assert (adata.obsp["spatial_connectivities"][receiver, sender] == 1).all()
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5ad"]


def test_images_without_labels_are_embedded_into_arrays(run_cli, runs, images, bare, tmp_path):
    for name, table in (("bare", bare), ("all", images)):
        assert run_cli("embed", runs / "image", "--data", table, "--out", tmp_path / f"{name}.npz").code == 0
    with np.load(tmp_path / "bare.npz") as found, np.load(tmp_path / "all.npz") as labelled:
        assert sorted(found) == ["embedding", "path", "prediction"]
        assert found["embedding"].shape == (44, 16)
        assert found["path"][3] == "images/00003.png"
        # Labels have no part in what comes out.
        assert all(np.array_equal(found[key], labelled[key]) for key in found)
    assert run_cli("embed", runs / "image", "--data", bare, "--out", tmp_path / "bare.h5ad").code == 0
    assert "label" not in anndata.read_h5ad(tmp_path / "bare.h5ad").obs


def test_runs_of_compare_are_embedded(run_cli, images, bare, tmp_path):
    table = fimp.data.simulate.images(tmp_path / "train", n_places=60, labelled=1.0)
    sizes = ["--image-size", 16, "--patch-size", 8, "--device", "cpu", "--jobs", 1, "--seeds", 1]
    for task, more in (("image", ["--epochs", 1]), ("zeroshot", [])):
        run = ["compare", task, "--data", table, "--models", "sage", *sizes, *more, "--out", tmp_path / task]
        assert run_cli(*run).code == 0
        out = tmp_path / f"{task}.npz"
        folder = tmp_path / task / "runs" / "sage" / "seed0"
        code, _, err = run_cli("embed", folder, "--data", bare, "--out", out)
        assert (code, err) == (0, "")
        with np.load(out) as found:
            assert np.isfinite(found["embedding"]).all()
            assert set(found["prediction"]) <= set(fimp.load(folder).classes)


@pytest.mark.parametrize("ending", ["h5ad", "npz"])
def test_another_graph_is_embedded(run_cli, runs, nodes, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    code, _, err = run_cli("embed", runs / "node", "--data", nodes, "--out", out)
    assert (code, err) == (0, "")
    model = fimp.load(runs / "node", nodes)
    if ending == "npz":
        with np.load(out) as found:
            embedding, prediction = found["embedding"], found["prediction"]
    else:
        adata = anndata.read_h5ad(out)
        embedding, prediction = adata.obsm["X_fimp"], adata.obs["fimp_prediction"]
    assert np.array_equal(embedding, model.embed())
    assert np.array_equal(prediction, model.predict())


def test_recordings_are_embedded_by_window_and_region(run_cli, runs, recordings, tmp_path):
    for ending in ("npz", "h5ad"):
        code, text, err = run_cli("embed", runs / "fmri", "--data", recordings, "--out", tmp_path / f"o.{ending}")
        assert (code, err) == (0, "")
        assert "6 windows of 2 recordings, 8 regions" in text
    embedding = fimp.load(runs / "fmri", recordings).embed()
    with np.load(tmp_path / "o.npz") as found:
        assert sorted(found) == ["embedding", "recording", "region", "start", "subject"]
        assert np.array_equal(found["embedding"], embedding)
        assert embedding.shape == (6, 8, 16)
        assert found["recording"].tolist() == ["sub-01.npz"] * 3 + ["sub-02.npz"] * 3
        assert found["start"].tolist() == [0, 20, 30] * 2
        assert found["region"][3] == "region 3"
    adata = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert np.array_equal(adata.obsm["X_fimp"], embedding.reshape(48, 16))
    assert list(adata.obs) == ["recording", "subject", "start", "region"]
    assert list(adata.obs.iloc[11]) == ["sub-01.npz", "sub-01", 20, "region 3"]


@pytest.mark.parametrize(
    ("run", "data", "out", "message"),
    [
        ("nothing", "tissue", "o.h5ad", "config.yaml is missing"),
        ("expression", "nowhere.h5ad", "o.h5ad", "nowhere.h5ad: no such file"),
        ("expression", "tissue", "o.csv", "does not end in .h5ad or .zarr; name"),
        ("expression", "tissue", "o.npz", "does not end in .h5ad or .zarr; name"),
        ("expression", "tissue", "nowhere/o.h5ad", "is no folder"),
        ("mean", "tissue", "o.h5ad", "has no states"),
        ("image", "images", "o.csv", "does not end in .h5ad or .npz; name"),
        ("image", "nowhere.csv", "o.npz", "nowhere.csv: does not exist"),
        ("image", "tissue", "o.npz", "wanted .csv"),
        ("image-mean", "images", "o.npz", "has no states"),
        ("gaussian", "recordings", "o.npz", "has no states"),
        ("fmri", "recordings", "o.csv", "does not end in .h5ad or .npz; name"),
        ("fmri", "nowhere", "o.npz", "nowhere: no such file"),
        ("fmri", "tissue", "o.npz", "files of type '.h5ad' are not read"),
        ("node", "nodes", "o.tsv", "does not end in .h5ad or .npz; name"),
        ("node", "nowhere.npz", "o.npz", "nowhere.npz: no such file"),
        ("node", "images", "o.npz", "not an .npz archive"),
    ],
)
def test_what_cannot_be_embedded_is_refused(run_cli, runs, tmp_path, request, run, data, out, message):
    source = data if data.startswith("nowhere") else request.getfixturevalue(data)
    code, _, err = run_cli("embed", runs / run, "--data", source, "--out", tmp_path / out)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("run", "data", "ending"), [("expression", "tissue", "h5ad"), ("image", "images", "npz")])
def test_a_full_disk_leaves_nothing(run_cli, runs, tmp_path, request, monkeypatch, run, data, ending):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fimp.cli.embed.os.replace", full)
    source = request.getfixturevalue(data)
    code, _, err = run_cli("embed", runs / run, "--data", source, "--out", tmp_path / f"o.{ending}")
    assert code == 2
    assert "No space left" in err
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten(run_cli, runs, tissue, tmp_path):
    (tmp_path / "o.h5ad").write_text("mine")
    code, _, err = run_cli("embed", runs / "expression", "--data", tissue, "--out", tmp_path / "o.h5ad")
    assert code == 2
    assert "exists" in err
    assert (tmp_path / "o.h5ad").read_text() == "mine"
