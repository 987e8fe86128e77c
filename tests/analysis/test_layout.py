import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

import fimp
from fimp.analysis.layout import DRAWN, Layout, layout_of, take
from fimp.data import NodeOptions, load_cells, read_nodes
from fimp.data.options import CellOptions
from fimp.tasks import ExpressionTask, NodeTask


def node_layout(edges, count):
    data = Data(x=torch.rand(count, 4), edge_index=torch.from_numpy(edges), y=torch.arange(count) % 2)
    return layout_of(NodeTask(read_nodes(data, NodeOptions())))


def test_cells_lie_where_they_are():
    adata = fimp.data.simulate.tissue(n_cells=60, n_genes=12)
    layout = layout_of(ExpressionTask(load_cells(adata)))
    np.testing.assert_allclose(layout.xy, adata.obsm["spatial"])
    assert (layout.counted, layout.real) == ("All 60 nodes", True)


def test_of_several_sections_the_largest_is_drawn():
    adata = fimp.data.simulate.tissue(n_cells=60, n_genes=12)
    adata.obs["section"] = ["one"] * 20 + ["two"] * 40
    data = load_cells(adata, CellOptions(section="section"))
    layout = layout_of(ExpressionTask(data))
    assert layout.nodes.tolist() == list(range(20, 60))
    assert layout.counted == "40 of 60 nodes"
    assert "two" in layout.about
    assert layout.edges.max() < 40
    # No edge is lost, as none crosses sections.
    assert layout.edges.shape[1] == int((data.edge_index[1] >= 20).sum())


def test_a_graph_without_places_shows_the_surroundings_of_its_hub():
    generator = np.random.default_rng(0)
    edges = generator.integers(0, 2000, (2, 6000))
    edges[0, :50] = 7
    layout = node_layout(edges, 2000)
    assert len(layout.nodes) == DRAWN
    assert 7 in layout.nodes
    assert not layout.real
    assert np.isfinite(layout.xy).all()
    # No two nodes lie on one spot.
    assert len(np.unique(layout.xy.round(9), axis=0)) == DRAWN


def test_neighbours_lie_nearer_than_others():
    ring = np.stack([np.arange(40), np.roll(np.arange(40), 1)])
    layout = node_layout(ring, 40)
    length = np.linalg.norm(np.diff(layout.xy[layout.edges], axis=0)[0], axis=1).mean()
    apart = np.linalg.norm(layout.xy[None] - layout.xy[:, None], axis=2).mean()
    assert length < 0.5 * apart


def test_a_graph_without_edges_shows_a_node():
    assert len(node_layout(np.zeros((2, 0), np.int64), 20).nodes) == 1


@given(st.lists(st.booleans(), min_size=6, max_size=6), st.lists(st.tuples(*[st.integers(0, 5)] * 2), max_size=12))
def test_taking_nodes_keeps_exactly_the_edges_between_them(keep, pairs):
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    whole = Layout(np.arange(6) + 10, np.eye(6)[:, :2], edges, 6, "x")
    part = take(whole, np.array(keep))
    found = [(int(part.nodes[a]) - 10, int(part.nodes[b]) - 10) for a, b in part.edges.T]
    assert found == [(a, b) for a, b in pairs if keep[a] and keep[b]]
