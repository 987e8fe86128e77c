import shutil
from dataclasses import asdict, replace

import anndata
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import sparse

import fimp
from fimp.data import CellOptions, NodeOptions, load_cells, read_nodes
from fimp.data.disk_matrix import DiskMatrix
from fimp.data.node_files import write_nodes
from fimp.errors import FIMPError
from fimp.tasks.base import known_tasks
from fimp.train import runs
from fimp.train.digest import digest
from fimp.train.runs import RunConfig

COMPARE = ["compare", "expression", "--batch-size", "64", "--device", "cpu", "--seeds", "1", "--epochs", "1"]
COMPARE += ["--members", "1", "--jobs", "1"]


def tissue(seed=0, n_cells=80):
    return fimp.data.simulate.tissue(n_cells=n_cells, n_genes=12, n_pairs=3, seed=seed)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "d.h5ad"
    tissue().write_h5ad(path)
    return path


def of_cells(source, **options):
    options = CellOptions(**options)
    return digest(str(source), load_cells(source, options))


def of_data(task, source, **options):
    kind = known_tasks()[task]
    return digest(str(source), kind.read(source, kind.data_options(**options), None))


@pytest.mark.parametrize("other", [{"seed": 1}, {"n_cells": 90}])
def test_a_comparison_is_not_resumed_on_other_cells(run_cli, file, tmp_path, other):
    arguments = [*COMPARE, "--data", file, "--out", tmp_path / "out"]
    assert run_cli(*arguments, "--models", "mean")[0] == 0
    before = (tmp_path / "out" / "results.json").read_bytes()
    tissue(**other).write_h5ad(file)
    code, _, err = run_cli(*arguments, "--models", "mean,mlp", "--resume")
    assert code == 2
    assert f"{file}: changed since {tmp_path / 'out' / 'runs' / 'mean' / 'seed0'} was trained" in err
    assert err.count("\n") == 1
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    # The same cells again, in a file with more about them.
    adata = tissue()
    adata.obs["found"] = "later"
    adata.write_h5ad(file)
    assert run_cli(*arguments, "--models", "mean,mlp", "--resume")[0] == 0
    assert run_cli("repeat", tmp_path / "out" / "runs" / "mlp" / "seed0")[0] == 0


def test_a_run_is_not_repeated_and_not_done_on_other_cells(run_cli, file, tmp_path):
    assert run_cli(*COMPARE, "--data", file, "--models", "mlp", "--out", tmp_path / "out")[0] == 0
    run = tmp_path / "out" / "runs" / "mlp" / "seed0"
    tissue(seed=1).write_h5ad(file)
    code, out, err = run_cli("repeat", run)
    assert (code, out) == (2, "")
    assert f"{file}: changed since mlp was trained on it" in err
    with pytest.raises(FIMPError, match="changed since mlp was trained on it; put it back, or train again"):
        RunConfig.load(run).read()


def test_a_run_knows_its_data_wherever_they_are(run_cli, tmp_path, monkeypatch):
    for name, order in (("a", slice(None)), ("b", slice(None, None, -1)), ("c", slice(None))):
        (tmp_path / name).mkdir()
        tissue()[order].copy().write_h5ad(tmp_path / name / "d.h5ad")
    monkeypatch.chdir(tmp_path / "a")
    assert run_cli(*COMPARE, "--data", "d.h5ad", "--models", "gcn", "--out", tmp_path / "out")[0] == 0
    run = tmp_path / "out" / "runs" / "gcn" / "seed0"
    scores = fimp.load(run).evaluate()
    monkeypatch.chdir(tmp_path / "c")
    assert fimp.load(run).evaluate() == scores
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(FIMPError, match=r"^d.h5ad: changed since .*seed0 was trained; put back .*, or train anew$"):
        fimp.load(run)
    assert run_cli("embed", run, "--out", tmp_path / "o.h5ad")[0] == 2
    # As other data, they are used all the same.
    assert fimp.load(run, "d.h5ad").predict().shape == (80, 12)
    assert run_cli("embed", run, "--data", "d.h5ad", "--out", tmp_path / "o.h5ad")[0] == 0


def test_a_stored_configuration_gives_the_digest_back(file, tmp_path):
    model = fimp.ExpressionModel(file, model="mlp", dim=16)
    config = model.config
    assert config.data_digest == of_cells(file)
    config.save(tmp_path)
    assert RunConfig.load(tmp_path) == config
    assert asdict(replace(config, data_digest=None)).keys() == asdict(config).keys()


def test_a_configuration_without_a_digest_reads_what_is_there(file, tmp_path):
    config = replace(fimp.ExpressionModel(file, model="mlp", dim=16).config, data_digest=None)
    tissue(seed=1).write_h5ad(file)
    assert config.read().num_nodes == 80
    assert config.digest() == of_cells(file)


def test_the_file_of_a_model_in_memory_is_looked_at_when_it_is_loaded(file, tmp_path):
    fimp.ExpressionModel(file, model="mlp", dim=16).save(tmp_path / "run")
    assert fimp.load(tmp_path / "run").evaluate()
    tissue(seed=1).write_h5ad(file)
    with pytest.raises(FIMPError, match="changed since"):
        fimp.load(tmp_path / "run")
    # Other data do not become those that it was trained on.
    fimp.load(tmp_path / "run", file).save(tmp_path / "again")
    with pytest.raises(FIMPError, match="changed since"):
        fimp.load(tmp_path / "again")


def test_cells_in_memory_have_no_digest_and_a_named_dataset_has_its_name(tmp_path, monkeypatch):
    model = fimp.ExpressionModel(tissue(), model="mlp", dim=16)
    assert model.config.data_digest is None
    model.save(tmp_path / "run")
    assert fimp.load(tmp_path / "run").evaluate() == model.evaluate()
    named = fimp.ExpressionModel("simulated", model="mlp", dim=16, fraction=0.05)
    assert named.config.data_digest == "dataset"
    named.save(tmp_path / "named")
    assert fimp.load(tmp_path / "named").evaluate() == named.evaluate()
    # A file of this name is no dataset.
    monkeypatch.chdir(tmp_path)
    tissue(n_cells=400).write_h5ad(tmp_path / "simulated")
    with pytest.raises(FIMPError, match="changed since"):
        fimp.load(tmp_path / "named")


def changed_cells():
    def counts(adata):
        # Totals and non-zero values stay where they are.
        row = adata.X[[3]].toarray()[0]
        a, b = np.flatnonzero(row)[:2]
        assert row[a] != row[b]
        row[[a, b]] = row[[b, a]]
        adata.X = sparse.vstack([adata.X[:3], sparse.csr_matrix(row), adata.X[4:]], format="csr")

    def positions(adata):
        adata.obsm["spatial"][5, 0] += 1e-3

    def labels(adata):
        adata.obs["kind"] = adata.obs["kind"].to_numpy()[::-1]

    def genes(adata):
        adata.var_names = [*adata.var_names[:-1], "another"]

    def neighbors(adata):
        adata.obsp["spatial_connectivities"] = adata.obsp["spatial_connectivities"].T.tocsr()

    def sections(adata):
        adata.obs["slice"] = ["a"] * 30 + ["b"] * 50

    return [counts, positions, labels, genes, neighbors, sections]


@pytest.mark.parametrize("change", changed_cells(), ids=lambda change: change.__name__)
@pytest.mark.parametrize("located", [True, False])
def test_whatever_decides_numbers_of_cells_changes_the_digest(tmp_path, change, located):
    adata = tissue()
    adata.X = sparse.csr_matrix(adata.X)
    adata.obs["kind"] = ["x"] * 20 + ["y"] * 60
    adata.obs["slice"] = ["a"] * 40 + ["b"] * 40
    links = np.arange(80)[:-1]
    adata.obsp["spatial_connectivities"] = sparse.csr_matrix((np.ones(79), (links, links + 1)), shape=(80, 80))
    if not located:
        if change.__name__ == "positions":
            pytest.skip("there are none")
        del adata.obsm["spatial"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    before = of_cells(tmp_path / "a.h5ad", label="kind")
    adata.obsm["more"] = np.zeros((80, 2))
    adata.write_h5ad(tmp_path / "b.h5ad", compression="gzip")
    assert of_cells(tmp_path / "b.h5ad", label="kind") == before
    change(adata)
    adata.write_h5ad(tmp_path / "c.h5ad")
    assert of_cells(tmp_path / "c.h5ad", label="kind") != before


def test_rounding_elsewhere_does_not_change_the_digest(file):
    """log1p rounds otherwise on another processor, and what is nearest in expression may change by it."""
    data = load_cells(file, CellOptions())
    before = digest(str(file), data)
    data.x.values()[:] = torch.nextafter(data.x.values(), torch.tensor(torch.inf))
    assert digest(str(file), data) == before
    data = load_cells(file, CellOptions(graph="expression"))
    before = digest(str(file), data)
    data.edge_index = data.edge_index.flip(1)
    assert digest(str(file), data) == before


def test_values_that_are_no_counts_count_to_the_last_bit(tmp_path):
    adata = tissue()
    adata.X = sparse.csr_matrix(adata.X * np.float32(0.37))
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.X.data[7] = np.nextafter(adata.X.data[7], np.float32(np.inf))
    adata.write_h5ad(tmp_path / "b.h5ad")
    assert of_cells(tmp_path / "a.h5ad") != of_cells(tmp_path / "b.h5ad")


@pytest.mark.parametrize("raw", [True, False])
def test_cells_have_one_digest_in_a_file_in_a_store_in_memory_and_on_disk(tmp_path, monkeypatch, raw):
    adata = tissue()
    adata.X = sparse.csr_matrix(adata.X if raw else adata.X * np.float32(0.37))
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.write_zarr(tmp_path / "a.zarr")
    adata.X = adata.X.toarray()
    adata.write_h5ad(tmp_path / "dense.h5ad")
    before = of_cells(tmp_path / "a.h5ad")
    assert of_cells(tmp_path / "a.zarr") == of_cells(tmp_path / "dense.h5ad") == before
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", "1kB")
    assert isinstance(load_cells(tmp_path / "a.h5ad").x, DiskMatrix)
    assert of_cells(tmp_path / "a.h5ad") == before


def test_several_files_are_all_looked_at(tmp_path):
    files = [str(tmp_path / f"{seed}.h5ad") for seed in range(2)]
    for seed, path in enumerate(files):
        tissue(seed).write_h5ad(path)
    model = fimp.ExpressionModel(files, model="mlp", dim=16)
    model.save(tmp_path / "run")
    assert fimp.load(tmp_path / "run").evaluate() == model.evaluate()
    tissue(2).write_h5ad(files[1])
    with pytest.raises(FIMPError, match=r"0.h5ad, .*1.h5ad: changed since"):
        fimp.load(tmp_path / "run")


@pytest.mark.parametrize("dense", [True, False])
def test_whatever_decides_numbers_of_a_graph_changes_the_digest(tmp_path, dense):
    def write(name, edge=0, label=0, feature=1.0, mask=0):
        x = np.eye(30, dtype=np.float32)
        x[4, 4] = feature
        edges = np.stack([np.arange(30), np.roll(np.arange(30), 1)])
        edges[0, 3] += edge
        y = np.arange(30) % 3
        y[2] += label
        part = (np.arange(30) + mask) % 3
        masks = {f"{name}_mask": torch.from_numpy(part == k) for k, name in enumerate(("train", "val", "test"))}
        x = torch.from_numpy(x)
        data = fimp.data.nodes.Data(
            x=x if dense else x.to_sparse_csr(), edge_index=torch.from_numpy(edges), y=torch.from_numpy(y), **masks
        )
        write_nodes(tmp_path / name, read_nodes(data, NodeOptions()))
        return of_data("node", tmp_path / name)

    before = write("a.npz")
    assert write("b.npz") == before
    changes = ({"edge": 5}, {"label": -1}, {"feature": 2.0}, {"mask": 1})
    assert len({before, *(write("c.npz", **change) for change in changes)}) == 5


def test_whatever_decides_numbers_of_images_changes_the_digest(tmp_path):
    def write(folder, pixel=0, latitude=50.0, label="x", name="0.png"):
        folder.mkdir()
        rows = ["path,latitude,longitude,label"]
        for index in range(12):
            image = np.full((32, 32, 3), 10 * index + pixel * (index == 5), np.uint8)
            path = name if index == 0 else f"{index}.png"
            Image.fromarray(image).save(folder / path)
            rows.append(f"{path},{latitude + index / 100 if index else latitude},8.0,{label if index % 2 else 'y'}")
        (folder / "images.csv").write_text("\n".join(rows))
        return of_data("image", folder / "images.csv", image_size=16)

    before = write(tmp_path / "a")
    # Where files are, and what else is there, is of no account.
    assert write(tmp_path / "b", name="first.png") == before
    (tmp_path / "b" / "notes.txt").write_text("mine")
    assert of_data("image", tmp_path / "b" / "images.csv", image_size=16) == before
    changes = ({"pixel": 1}, {"latitude": 50.001}, {"label": "z"})
    found = [write(tmp_path / f"c{index}", **change) for index, change in enumerate(changes)]
    assert len({before, *found}) == 4


def test_whatever_decides_numbers_of_recordings_changes_the_digest(tmp_path):
    def write(folder, value=0.0, subject="s", x=0.0):
        folder.mkdir()
        generator = np.random.default_rng(0)
        for index in range(4):
            signal = generator.normal(size=(5, 60))
            signal[1, 7] += value
            np.savez(folder / f"{index}.npz", signal=signal, subject=f"{subject if index == 2 else 's'}{index // 2}")
        rows = [f"{k + x},{k * k},{-k}" for k in range(5)]
        (folder / "regions.csv").write_text("\n".join(["x,y,z", *rows]))
        return of_data("fmri", folder, window=40, patch=10)

    before = write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "results").mkdir()
    assert of_data("fmri", tmp_path / "b", window=40, patch=10) == before
    changes = ({"value": 1e-3}, {"subject": "t"}, {"x": 0.5})
    found = [write(tmp_path / f"c{index}", **change) for index, change in enumerate(changes)]
    assert len({before, *found}) == 4


def test_a_comparison_computes_the_digest_once_for_all_its_runs(run_cli, file, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(runs, "digest", lambda *arguments: calls.append(arguments) or digest(*arguments))
    arguments = [*COMPARE, "--data", file, "--models", "mean,mlp,gcn", "--out", tmp_path / "out"]
    assert run_cli(*arguments)[0] == 0
    assert run_cli(*arguments, "--resume")[0] == 0
    assert len(calls) == 1
    stored = [yaml.safe_load(path.read_text()) for path in (tmp_path / "out").glob("runs/*/*/config.yaml")]
    assert {config["data_digest"] for config in stored} == {of_cells(file)}


def test_what_is_written_does_not_depend_on_the_reader(file):
    """A digest that changed between versions would refuse the runs of all users."""
    adata = anndata.AnnData(sparse.csr_matrix(np.arange(24, dtype=np.float32).reshape(12, 2)))
    adata.obsm["spatial"] = np.arange(24.0).reshape(12, 2)
    adata.write_h5ad(file)
    assert of_cells(file, min_counts=0, graph="none").startswith("4fe5e332558ce008")
