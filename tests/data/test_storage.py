import numpy as np
import pytest
import torch
from torch import Tensor

from fimp.data.cells import CellOptions, load_cells
from fimp.data.storage import pack, unpack
from fimp.errors import FIMPError
from fimp.train.checkpoint import load_tree, save_tree


def bare(adata):
    adata.X = adata.X * 0.5
    del adata.obsm["spatial"]
    return load_cells(adata)


def full(adata):
    adata.obs["slice"] = ["a", "b", "c"] * 10
    adata.obs["type"] = ["x", "y", None] * 10
    return load_cells(adata, CellOptions(genes=5, test_section=("b",), label="type"))


@pytest.mark.parametrize("make", [bare, full])
def test_a_graph_comes_back_from_a_file(small_adata, tmp_path, make):
    data = make(small_adata)
    save_tree(pack(data), tmp_path / "data.safetensors")
    again = unpack(load_tree(tmp_path / "data.safetensors"))
    assert type(again) is type(data)
    assert torch.equal(again.x.to_dense(), data.x.to_dense())
    assert again.x.layout == torch.sparse_csr
    assert (again.num_nodes, again.reference) == (data.num_nodes, data.reference)
    for key in ("scale", "edge_index", "pos", "section", "held_out", "y", "cell_index"):
        one, other = getattr(again, key, None), getattr(data, key, None)
        assert one is None if other is None else torch.equal(one, other) and one.dtype == other.dtype
    assert again.get("share") == data.get("share")
    for key in ("target_total", "section_names", "classes", "gene_names", "name", "notes"):
        assert getattr(again, key) == getattr(data, key)
    stored = set(pack(data))
    assert {key for key in data.keys() if key != "num_nodes"} <= stored  # noqa: SIM118


def without_section(tree):
    del tree["section"]


def index_outside(tree):
    tree["x"]["col"] = torch.full_like(tree["x"]["col"], 99)


def no_tensor(tree):
    tree["x"]["crow"] = [0, 1]


def other_shape(tree):
    tree["x"]["shape"] = [3, 3]


@pytest.mark.parametrize("damage", [without_section, index_outside, no_tensor, other_shape])
def test_damaged_or_older_data_are_refused(small_adata, damage):
    tree = pack(load_cells(small_adata))
    damage(tree)
    with pytest.raises(FIMPError, match=r"run/data: not a graph of cells .*train and save again"):
        unpack(tree, "run/data")


def test_packing_leaves_the_graph_as_it_is(small_adata):
    data = load_cells(small_adata)
    tree = pack(data)
    unpack(tree)
    assert "x" in tree
    assert isinstance(tree["edge_index"], Tensor)
    assert np.isfinite(data.x.values().numpy()).all()
