import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

import fimp


@pytest.fixture
def stored(small_adata, tmp_path):
    """A good file."""
    small_adata.write_h5ad(tmp_path / "tissue.h5ad")
    return tmp_path / "tissue.h5ad"


def compare(run_cli, data, out, *more):
    return run_cli("compare", "expression", "--data", data, "--models", "mean", "--seeds", 1, "--out", out, *more)


def is_refused(outcome, out, *words):
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.endswith("\n")
    assert outcome.err.startswith("fimp: error: ")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, outcome.err
    assert not out.exists()


def test_good_input_is_not_refused(run_cli, stored, tmp_path):
    # The one test here that shows that the others fail for their own reason.
    outcome = compare(run_cli, stored, tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / "results.json").is_file()


def no_such_file(path, adata):
    pass


def directory(path, adata):
    path.mkdir()


def text(path, adata):
    path.write_text("cell,gene,count\n" * 50)


def empty(path, adata):
    path.touch()


def truncated(path, adata):
    adata.write_h5ad(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def header_only(path, adata):
    adata.write_h5ad(path)
    path.write_bytes(path.read_bytes()[:100])


def other_hdf5(path, adata):
    with h5py.File(path, "w") as file:
        file["signal"] = np.zeros(3)


def damaged_matrix(path, adata):
    adata.write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X/indices"]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (no_such_file, "no such file"),
        (directory, "is a directory"),
        (text, "not an HDF5 file"),
        (empty, "empty"),
        (truncated, "truncated"),
        (header_only, "copy it again"),
        (other_hdf5, "no AnnData"),
        (damaged_matrix, "damaged"),
    ],
)
def test_a_file_that_is_no_anndata(run_cli, small_adata, tmp_path, make, word):
    path = tmp_path / "input.h5ad"
    make(path, small_adata)
    is_refused(compare(run_cli, path, tmp_path / "out"), tmp_path / "out", str(path), word)


def set_value(value):
    def change(adata):
        adata.X[4, 0] = value

    return change


def continuous_nan(adata):
    adata.X = np.log1p(adata.X.toarray())
    adata.X[3, 2] = np.nan


def all_zero(adata):
    adata.X = sparse.csr_matrix(adata.shape, dtype=np.float32)


def place(value):
    def change(adata):
        adata.obsm["spatial"][5, 1] = value

    return change


def twins(adata):
    adata.var_names = ["gene0", "gene0", *adata.var_names[2:]]


def repeated_raw(adata):
    raw = adata.copy()
    raw.var_names = ["gene0", "gene0", *raw.var_names[2:]]
    adata.raw = raw
    adata.X = adata.X.toarray() - 0.5


def text_places(adata):
    adata.obsm["spatial"] = np.full((adata.n_obs, 5), 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_value(np.nan), ["NaN", "cell 4"]),
        (set_value(np.inf), ["infinite", "cell 4"]),
        (set_value(-3), ["negative counts", "--layer"]),
        (continuous_nan, ["NaN", "cell 3"]),
        (all_zero, ["zero everywhere"]),
        (place(np.nan), ["1 cells have NaN", "obsm['spatial']"]),
        (place(-np.inf), ["1 cells have NaN or infinite coordinates"]),
        (twins, ["duplicate gene names", "gene0", "var_names_make_unique"]),
        (repeated_raw, ["raw has 1 duplicate", "gene0"]),
        (text_places, ["[30, 5]", "[cells, 2]"]),
    ],
    ids=["nan", "inf", "negative", "log-nan", "zero", "pos-nan", "pos-inf", "duplicates", "raw-duplicates", "5-D"],
)
def test_contents_that_cannot_be_used(run_cli, small_adata, tmp_path, change, words):
    change(small_adata)
    path = tmp_path / "input.h5ad"
    small_adata.write_h5ad(path)
    is_refused(compare(run_cli, path, tmp_path / "out"), tmp_path / "out", str(path), *words)


@pytest.mark.parametrize(
    ("cells", "genes", "words"),
    [
        (0, 12, ["0 cells"]),
        (30, 0, ["0 genes"]),
        (1, 12, ["1 cells are too few", "at least 10"]),
        (9, 12, ["9 cells are too few", "70/10/20"]),
    ],
)
def test_too_few_cells_or_genes(run_cli, small_adata, tmp_path, cells, genes, words):
    path = tmp_path / "input.h5ad"
    small_adata[:cells, :genes].copy().write_h5ad(path)
    is_refused(compare(run_cli, path, tmp_path / "out"), tmp_path / "out", str(path), *words)


def test_a_fraction_that_leaves_too_few_cells(run_cli, stored, tmp_path):
    outcome = compare(run_cli, stored, tmp_path / "out", "--fraction", 0.2)
    is_refused(outcome, tmp_path / "out", "6 cells are too few", "--fraction")


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--models", "", ["empty", "fimp-base"]),
        ("--models", " , ", ["empty", "gcn"]),
        ("--models", "mean,transformer", ["'transformer'", "mean", "mlp", "gcn", "fimp-base"]),
        ("--models", "gcn:sideways", ["'sideways'", "no-edges"]),
        ("--models", "gcn,gcn", ["2 times"]),
        ("--fraction", "0", ["0.0", "(0, 1]"]),
        ("--fraction", "-0.1", ["-0.1", "(0, 1]"]),
        ("--fraction", "1.01", ["1.01", "(0, 1]"]),
        ("--fraction", "nan", ["nan", "(0, 1]"]),
        ("--fraction", "inf", ["inf", "(0, 1]"]),
        ("--seeds", "0", ["below 1"]),
        ("--seeds", "-2", ["-2", "below 1"]),
        ("--tokens", "0", ["below 1"]),
        ("--batch-size", "0", ["below 1"]),
        ("--batch-size", "-5", ["-5", "below 1"]),
        ("--epochs", "-1", ["-1", "negative"]),
        ("--device", "tpu", ["'tpu'", "cpu", "cuda"]),
        ("--device", "", ["unknown"]),
        ("--precision", "fp8", ["'fp8'", "32", "bf16"]),
        ("--graph", "ring", ["'ring'", "delaunay"]),
        ("--neighbors", "0", ["below 1"]),
        ("--genes", "0", ["below 1"]),
        ("--genes", "-5", ["-5", "below 1"]),
        ("--section", "slice", ["'slice'", "no columns", "--section none"]),
        ("--test-section", "left", ["'left'", "no sections", "--section"]),
        ("--split", "thirds", ["'thirds'", "blocks"]),
        ("--normalize", "median", ["'median'", "visible"]),
        ("--max-minutes", "0", ["0.0", "positive"]),
        ("--max-minutes", "nan", ["nan", "positive"]),
        ("--layer", "spliced", ["'spliced'", "it has X"]),
        ("--spatial-key", "umap", ["'umap'", "spatial"]),
        ("--data", "", ["--data", "empty"]),
        ("--data", "slideseq", ["slideseq", "fimp data list"]),
    ],
)
def test_a_flag_that_cannot_be(run_cli, stored, tmp_path, flag, value, words):
    outcome = compare(run_cli, stored, tmp_path / "out", flag, value)
    # The flag itself is named, or the file and the flag's value.
    named = str(stored) if flag in ("--layer",) else flag
    is_refused(outcome, tmp_path / "out", *([] if value == "slideseq" else [named]), *words)


@pytest.mark.parametrize("name", ["results", "results/below"])
def test_an_out_that_is_a_file_or_lies_below_one(run_cli, stored, tmp_path, name):
    (tmp_path / "results").write_text("mine")
    outcome = compare(run_cli, stored, tmp_path / name)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "--out" in outcome.err
    assert "is a file" in outcome.err
    assert (tmp_path / "results").read_text() == "mine"


@pytest.fixture
def slices(small_adata, tmp_path):
    """A file of two sections and a column that is none."""
    small_adata.obs["slice"] = ["left"] * 10 + ["right"] * 20
    small_adata.obs["mouse"] = ["a", None] * 15
    small_adata.write_h5ad(tmp_path / "slices.h5ad")
    return tmp_path / "slices.h5ad"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--test-section", "top"], ["'top' does not exist", "left, right"]),
        (["--test-section", "left", "--test-section", "top"], ["'top' does not exist"]),
        (["--test-section", "left", "--test-section", "right"], ["leaves 0 cells", "at least 8"]),
        (["--test-section", "left", "--split", "blocks"], ["--split blocks", "drop one"]),
        (["--test-section", "left", "--section", "none"], ["no sections"]),
        (["--section", "mice"], ["'mice'", "slice, mouse"]),
        (["--section", "mouse"], ["15 cells have no value", "obs['mouse']"]),
    ],
)
def test_sections_that_cannot_be(run_cli, slices, tmp_path, flags, words):
    is_refused(compare(run_cli, slices, tmp_path / "out", *flags), tmp_path / "out", str(slices), *words)


def test_files_that_cannot_be_joined(run_cli, small_adata, stored, tmp_path):
    outcome = compare(run_cli, stored, tmp_path / "out", "--data", stored)
    is_refused(outcome, tmp_path / "out", "--data", str(stored), "2 times")
    small_adata.var_names = [f"other{index}" for index in range(12)]
    small_adata.write_h5ad(tmp_path / "other.h5ad")
    outcome = compare(run_cli, stored, tmp_path / "out", "--data", tmp_path / "other.h5ad")
    is_refused(outcome, tmp_path / "out", str(stored), str(tmp_path / "other.h5ad"), "0 genes")


def test_sections_and_several_files_that_are_fine(run_cli, slices, stored, tmp_path):
    flags = ("--data", stored, "--test-section", "slices/left", "--genes", 6)
    outcome = compare(run_cli, slices, tmp_path / "out", *flags)
    assert outcome.code == 0, outcome.err
    assert "slices + tissue: 60 nodes, 6 features" in outcome.out
    assert compare(run_cli, slices, tmp_path / "out", *flags, "--resume").code == 0
    outcome = compare(run_cli, slices, tmp_path / "out", *flags[:-2], "--resume")
    assert outcome.code == 2
    assert "data.genes=6" in outcome.err
    # The run can be loaded: it knows its files and its test section.
    run = fimp.load(tmp_path / "out" / "runs" / "mean" / "seed0")
    assert run.task.split["test"].tolist() == list(range(10))
    assert run.config.source == [str(slices), str(stored)]
    assert run_cli("repeat", tmp_path / "out" / "runs" / "mean" / "seed0").code == 0


@pytest.mark.parametrize("flag", [["--graph", "knn"], ["--graph", "delaunay"], ["--split", "blocks"]])
def test_coordinates_that_are_asked_for_and_not_there(run_cli, small_adata, tmp_path, flag):
    del small_adata.obsm["spatial"]
    small_adata.write_h5ad(tmp_path / "input.h5ad")
    outcome = compare(run_cli, tmp_path / "input.h5ad", tmp_path / "out", *flag)
    is_refused(outcome, tmp_path / "out", flag[0], "coordinates")


def test_visible_normalisation_of_values_that_are_no_counts(run_cli, small_adata, tmp_path):
    small_adata.X = np.log1p(small_adata.X.toarray())
    small_adata.write_h5ad(tmp_path / "input.h5ad")
    outcome = compare(run_cli, tmp_path / "input.h5ad", tmp_path / "out", "--normalize", "visible")
    is_refused(outcome, tmp_path / "out", "--normalize", "raw counts")


@pytest.mark.parametrize("flags", [["--tokens", "0"], ["--split", "blocks"]])
def test_earlier_results_survive_bad_input(run_cli, small_adata, tmp_path, flags):
    out = tmp_path / "out"
    (out / "runs" / "mean").mkdir(parents=True)
    (out / "results.json").write_text("{}")
    del small_adata.obsm["spatial"]
    small_adata.write_h5ad(tmp_path / "input.h5ad")
    assert compare(run_cli, tmp_path / "input.h5ad", out, *flags).code == 2
    assert (out / "results.json").read_text() == "{}"
    assert (out / "runs" / "mean").is_dir()


def test_legal_oddities_are_read_with_a_notice(run_cli, small_adata, tmp_path):
    # Scaled data without raw, no coordinates, and a graph with isolated nodes.
    small_adata.X = small_adata.X.toarray() - 1.25
    del small_adata.obsm["spatial"]
    small_adata.write_h5ad(tmp_path / "scaled.h5ad")
    outcome = run_cli("data", "info", tmp_path / "scaled.h5ad")
    assert (outcome.code, outcome.err) == (0, "")
    assert "not raw counts" in outcome.out
    assert "no coordinates" in outcome.out
    adjacency = np.zeros((30, 30))
    adjacency[0, 1] = 1
    small_adata.obsp["spatial_connectivities"] = sparse.csr_matrix(adjacency)
    small_adata.write_h5ad(tmp_path / "isolated.h5ad")
    outcome = compare(run_cli, tmp_path / "isolated.h5ad", tmp_path / "out")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("which", ["truncated", "duplicates"])
def test_the_installed_command_prints_one_line_and_writes_nothing(small_adata, tmp_path, which):
    # Duplicate gene names make anndata warn, which only shows outside pytest.
    path, out = tmp_path / "input.h5ad", tmp_path / "out"
    if which == "truncated":
        truncated(path, small_adata)
    else:
        twins(small_adata)
        small_adata.write_h5ad(path)
    command = [sys.executable, "-c", "from fimp.cli.main import main; main()", "compare", "expression"]
    done = subprocess.run(
        [*command, "--data", path, "--models", "mean", "--out", out],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"fimp: error: {path}: ")
    assert done.stdout == ""
    assert sorted(Path(tmp_path).iterdir()) == [path]
