import re

import numpy as np
import pytest


def field(out, name):
    return re.search(rf"^  {name}\s+(.*)$", out, re.MULTILINE)[1]


def test_list_names_every_dataset_and_where_it_comes_from(run_cli, monkeypatch):
    from fimp.data.datasets import DATASETS

    # Wide enough that no cell of the table is broken into lines.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    code, out, err = run_cli("data", "list")
    assert (code, err) == (0, "")
    for dataset in DATASETS.values():
        line = next(line for line in out.splitlines() if f" {dataset.name} " in line)
        assert dataset.origin in line
        assert dataset.description in line


@pytest.fixture
def stored(small_adata, tmp_path):
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    return tmp_path / "tissue.h5ad"


def test_info_shows_what_a_comparison_would_read(run_cli, stored, small_adata):
    code, out, err = run_cli("data", "info", stored, "--neighbors", 5)
    assert (code, err) == (0, "")
    assert out.startswith(f"{stored}\n")
    assert field(out, "cells") == "30 (0 without any value)"
    assert field(out, "genes") == "12"
    assert field(out, "values").startswith(f"{small_adata.X.nnz} not zero")
    assert field(out, "coordinates") == "2-D"
    assert field(out, "edges") == "150; 5.0 in-neighbours per cell, 0 cells without"
    assert field(out, "sections") == "one"
    assert field(out, "label columns") == "none"
    assert "raw counts" in field(out, "note")


def test_info_counts_empty_cells_and_cells_without_neighbours(run_cli, small_adata, tmp_path):
    counts = small_adata.X.toarray()
    counts[[3, 4]] = 0
    small_adata.X = counts
    adjacency = np.zeros((30, 30))
    adjacency[0, 1] = adjacency[1, 0] = 1
    small_adata.obsp["spatial_connectivities"] = adjacency
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    code, out, _ = run_cli("data", "info", tmp_path / "tissue.h5ad")
    assert code == 0
    assert field(out, "cells") == "30 (2 without any value)"
    assert field(out, "edges") == "2; 0.1 in-neighbours per cell, 28 cells without"


def test_info_follows_its_options(run_cli, small_adata, tmp_path):
    small_adata.layers["log"] = np.log1p(small_adata.X.toarray())
    small_adata.obsm["volume"] = np.random.default_rng(0).uniform(size=(30, 3))
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    options = ("--layer", "log", "--spatial-key", "volume", "--graph", "delaunay")
    code, out, _ = run_cli("data", "info", tmp_path / "tissue.h5ad", *options)
    assert code == 0
    assert field(out, "coordinates") == "3-D"
    assert "layers['log']: not raw counts" in out
    assert "Delaunay of obsm['volume']" in out


def test_info_shows_sections_labels_and_the_genes_kept(run_cli, small_adata, tmp_path):
    small_adata.obs["slice"] = ["left"] * 10 + ["right"] * 20
    small_adata.obs["layer"] = ["I", "II", "III"] * 10
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    code, out, err = run_cli("data", "info", tmp_path / "tissue.h5ad", "--genes", 5)
    assert (code, err) == (0, "")
    assert field(out, "genes") == "5 of 12"
    assert field(out, "sections") == "2: left (10 cells), right (20 cells)"
    assert field(out, "label columns") == "slice (2), layer (3)"
    assert "kept the 5 most variable of 12" in out
    _, out, _ = run_cli("data", "info", tmp_path / "tissue.h5ad", "--section", "layer")
    assert field(out, "sections").startswith("3: I (10 cells), ")
    _, out, _ = run_cli("data", "info", tmp_path / "tissue.h5ad", "--section", "none")
    assert field(out, "sections") == "one"


def test_info_of_a_named_dataset(run_cli):
    code, out, err = run_cli("data", "info", "simulated")
    assert (code, err) == (0, "")
    assert field(out, "cells").startswith("3,000 ")
    assert field(out, "genes") == "24"


@pytest.mark.parametrize(
    "arguments", [["nowhere.h5ad"], ["simulated", "--layer", "none"], ["simulated", "--graph", "x"]]
)
def test_info_of_bad_input_is_one_line(run_cli, arguments):
    code, out, err = run_cli("data", "info", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("fimp: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("budget", ["1", "10GB"])
def test_info_reads_zarr_stores_and_what_does_not_fit_memory(run_cli, small_adata, tmp_path, monkeypatch, budget):
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    small_adata.write_zarr(tmp_path / "tissue.zarr")
    _, wanted, _ = run_cli("data", "info", tmp_path / "tissue.h5ad")
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", budget)
    code, out, err = run_cli("data", "info", tmp_path / "tissue.zarr")
    assert (code, err) == (0, "")
    kept = [line for line in out.splitlines()[1:] if "FIMP_MEMORY_BUDGET" not in line]
    assert kept == wanted.splitlines()[1:]
    assert (len(kept) < len(out.splitlines()[1:])) == (budget == "1")


def test_a_budget_that_is_no_size_is_refused(run_cli, stored, monkeypatch):
    monkeypatch.setenv("FIMP_MEMORY_BUDGET", "lots")
    code, out, err = run_cli("data", "info", stored)
    assert (code, out) == (2, "")
    assert "FIMP_MEMORY_BUDGET: 'lots' is no size" in err
    assert len(err.splitlines()) == 1
