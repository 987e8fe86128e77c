"""Graphs of cells whose values stay on disk, against the same in memory."""

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

import fimp
from fimp.data.cells import CellOptions, load_cells, to_scipy
from fimp.data.disk_matrix import DiskMatrix
from fimp.data.storage import pack
from fimp.errors import FIMPError

FORMS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": lambda values: values.toarray()}


@pytest.fixture
def on_disk(monkeypatch):
    """Calls a function when nothing fits memory."""

    def call(function, *arguments, **options):
        with monkeypatch.context() as patch:
            patch.setenv("FIMP_MEMORY_BUDGET", "1")
            return function(*arguments, **options)

    return call


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name in ("fimp.data.disk_matrix.ENTRIES", "fimp.data.stored.ENTRIES", "fimp.data.stored._BLOCK"):
        monkeypatch.setattr(name, 300)


def tissue(path, form="csr", cells=90, seed=0, empty=True):
    adata = fimp.data.simulate.tissue(n_cells=cells, n_genes=18, n_pairs=4, seed=seed)
    values = sparse.csr_matrix(adata.X)
    if empty:
        values = values.tolil()
        values[[0, 40, cells - 1]] = 0
        values[7, 1:] = 0
        values = values.tocsr()
    adata.X = FORMS[form](values)
    adata.obs["slice"] = ["a", "b", "c"] * (cells // 3)
    (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path)
    return path


def same(found, wanted):
    assert isinstance(found.x, DiskMatrix)
    rows, values = found.x[np.arange(found.num_nodes)], to_scipy(wanted.x)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(rows, part), getattr(values, part))
    for key in ("scale", "edge_index", "pos", "section", "held_out", "y", "cell_index"):
        one, other = found.get(key), wanted.get(key)
        assert one is None if other is None else torch.equal(one, other)
    for key in ("target_total", "section_names", "classes", "gene_names"):
        assert found.get(key) == wanted.get(key)
    assert [note for note in found.notes if "stay on disk" not in note] == wanted.notes
    assert len(found.notes) == len(wanted.notes) + 1


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("form", FORMS)
def test_a_graph_to_train_on_is_the_same(tmp_path, on_disk, suffix, form):
    path = tissue(tmp_path / f"x{suffix}", form)
    for options in (
        CellOptions(),
        CellOptions(genes=7, test_section=("b",), label="cell_type"),
        CellOptions(fraction=0.5, min_counts=40, genes=12),
        CellOptions(graph="expression", section="none"),
    ):
        same(on_disk(load_cells, path, options), load_cells(path, options))


@pytest.mark.parametrize("kind", ["log", "scaled", "layer"])
def test_the_same_matrix_is_chosen(tmp_path, on_disk, kind):
    path = tissue(tmp_path / "x.h5ad", empty=False)
    adata = anndata.read_h5ad(path)
    if kind == "layer":
        adata.layers["counts"] = adata.X.copy()
    if kind == "scaled":
        adata.raw = adata.copy()
    adata.X = np.log1p(adata.X.toarray()) - (1.0 if kind == "scaled" else 0.0)
    adata.write_h5ad(path)
    same(on_disk(load_cells, path), load_cells(path))


def test_files_are_joined_on_disk(tmp_path, on_disk):
    paths = [tissue(tmp_path / f"{name}.h5ad", seed=seed) for seed, name in enumerate("ab")]
    adata = anndata.read_h5ad(paths[1])
    adata[:, ::-1][:, :15].copy().write_h5ad(paths[1])
    same(on_disk(load_cells, paths), load_cells(paths))
    same(
        on_disk(load_cells, [paths[0], anndata.read_h5ad(paths[1])]),
        load_cells([paths[0], anndata.read_h5ad(paths[1])]),
    )


def test_a_backed_anndata_stays_on_disk(tmp_path, on_disk):
    adata = anndata.read_h5ad(tissue(tmp_path / "x.h5ad"), backed="r")
    found = on_disk(load_cells, adata)
    same(found, load_cells(adata))
    with pytest.raises(FIMPError, match="cannot be stored with the model; make the model from the path"):
        pack(found)
    model = on_disk(fimp.ExpressionModel, adata, model="mean")
    with pytest.raises(FIMPError, match="path of their file"):
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    adata.file.close()


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("task", [fimp.ExpressionModel, fimp.CellTypeModel])
def test_models_trained_and_used_on_disk_give_the_same_digits(tmp_path, on_disk, suffix, task):
    own = tissue(tmp_path / f"own{suffix}", "csc")
    other = tissue(tmp_path / f"other{suffix}", "dense", cells=60, seed=3)
    options = {"model": "fimp-base", "dim": 16, "epochs": 2, "batch_size": 32}
    if task is fimp.CellTypeModel:
        options["label"] = "cell_type"
    else:
        options |= {"zeros": 0.3, "normalize": "visible"}
    here, there = task(own, **options).fit(), on_disk(task, own, **options).fit()
    assert isinstance(there.data.x, DiskMatrix)
    assert here.evaluate() == there.evaluate()
    for source in (None, other):
        np.testing.assert_array_equal(on_disk(there.embed, source), here.embed(source))
        np.testing.assert_array_equal(on_disk(there.predict, source), here.predict(source))
    there.save(tmp_path / "saved")
    again = on_disk(fimp.load, tmp_path / "saved", other)
    assert isinstance(again.data.x, DiskMatrix)
    np.testing.assert_array_equal(again.embed(), here.embed(other))
