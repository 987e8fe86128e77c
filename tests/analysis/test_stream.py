import numpy as np
import pytest
import torch

import fimp
from fimp.analysis.stream import EdgeChoice, stream
from fimp.errors import FIMPError
from fimp.train import loader


def test_edges_are_chosen_by_kind_and_ends():
    edges = torch.tensor([[0, 1, 2, 2], [0, 2, 1, 2]])
    assert EdgeChoice("self").keep(edges).tolist() == [True, False, False, True]
    assert EdgeChoice("neighbors").keep(edges).tolist() == [False, True, True, False]
    odd = np.array([False, True, False])
    assert EdgeChoice("all", senders=odd).keep(edges).tolist() == [False, True, False, False]
    assert EdgeChoice("all", receivers=odd).keep(edges).tolist() == [False, False, True, False]
    with pytest.raises(FIMPError, match="--edges: 'none' is unknown; use self, neighbors, all"):
        EdgeChoice("none")


def test_what_is_found_does_not_depend_on_the_batch(monkeypatch):
    model = fimp.ExpressionModel(fimp.data.simulate.tissue(n_cells=60, n_genes=12, n_pairs=2), dim=16, layers=2)

    def by_edge():
        out = {}
        for part in stream(model, model.task, EdgeChoice("all")):
            for row, edge in enumerate(part.edges.t().tolist()):
                rows, columns = (part.receiver[row] >= 0, part.sender[row] >= 0)
                out[tuple(edge)] = part.weight[row][rows][:, columns]
        return out

    whole = by_edge()
    assert len(whole) == 60 + model.data.edge_index.size(1)
    monkeypatch.setattr("fimp.analysis.stream.EVALUATION_BATCH", 7)
    assert loader.EVALUATION_BATCH != 7
    parts = by_edge()
    assert parts.keys() == whole.keys()
    for edge, weight in whole.items():
        torch.testing.assert_close(parts[edge], weight, rtol=1e-4, atol=1e-6)
