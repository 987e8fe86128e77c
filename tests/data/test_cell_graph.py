import numpy as np
import pytest
import torch
from scipy import sparse

from fimp.data.cell_graph import CellGraph, CellReference, to_scipy, to_torch


def test_sparse_values_go_to_torch_and_back():
    values = sparse.random(7, 5, density=0.4, random_state=0, format="csr", dtype=np.float32)
    assert (to_scipy(to_torch(values)) != values).nnz == 0


@pytest.mark.parametrize("given", [{}, {"scale": None, "target_total": None, "section": None, "classes": None}])
def test_what_a_graph_does_not_have_is_none(given):
    graph = CellGraph(num_nodes=3, gene_names=["a"], **given)
    for key in ("scale", "target_total", "section", "section_names", "held_out", "classes", "y", "pos"):
        assert getattr(graph, key) is None
    assert graph.reference == CellReference(("a",), None, None)


def test_a_graph_knows_what_a_model_of_it_must_remember():
    graph = CellGraph(num_nodes=2, gene_names=["a", "b"], target_total=7.0, classes=["x", "y"], y=torch.tensor([0, 1]))
    assert graph.reference == CellReference(("a", "b"), 7.0, ("x", "y"))
    assert graph.clone().reference == graph.reference
