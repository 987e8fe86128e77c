import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from sklearn.decomposition import PCA

from fimp.data.graphs import (
    adjacency_graph,
    delaunay_graph,
    expression_graph,
    knn_graph,
    neighbor_distance,
    principal_components,
    radius_graph,
    shuffle_sources,
)
from fimp.errors import FIMPError

# Few distinct places, so that many nodes share one.
places = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 15), st.integers(2, 3)),
    elements=st.integers(0, 3).map(float),
)


def distances(positions):
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def pairs(edge_index):
    assert edge_index.dtype == torch.int64
    return list(zip(*edge_index.tolist(), strict=True))


def no_self_loops_no_repeats(edge_index):
    edges = pairs(edge_index)
    assert len(set(edges)) == len(edges)
    assert all(source != destination for source, destination in edges)


@given(places, st.integers(1, 6))
def test_knn_equals_brute_force_even_where_nodes_share_a_place(positions, neighbors):
    edge_index = knn_graph(positions, neighbors)
    no_self_loops_no_repeats(edge_index)
    wanted = min(neighbors, len(positions) - 1)
    distance = distances(positions)
    np.fill_diagonal(distance, np.inf)
    for node in range(len(positions)):
        sources = edge_index[0, edge_index[1] == node].numpy()
        # Which of equally distant nodes is taken is free, how far they are is not.
        found = np.sort(distance[node, sources])
        np.testing.assert_allclose(found, np.sort(distance[node])[:wanted], atol=1e-12)


def test_knn_edges_point_from_the_neighbour_to_the_node():
    # Node 2 is far out: it receives from node 1, and nobody receives from it.
    edge_index = knn_graph(np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]]), 1)
    assert sorted(pairs(edge_index)) == [(0, 1), (1, 0), (1, 2)]


def test_a_single_node_has_no_neighbours():
    assert knn_graph(np.zeros((1, 2)), 3).shape == (2, 0)


@given(places, st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.5]))
def test_radius_equals_brute_force(positions, radius):
    edge_index = radius_graph(positions, radius)
    no_self_loops_no_repeats(edge_index)
    near = distances(positions) <= radius
    np.fill_diagonal(near, False)
    assert set(pairs(edge_index)) == {(int(j), int(i)) for i, j in zip(*np.nonzero(near), strict=True)}


def test_radius_leaves_isolated_nodes_without_edges():
    edge_index = radius_graph(np.array([[0.0, 0.0], [0.5, 0.0], [9.0, 9.0]]), 1.0)
    assert sorted(pairs(edge_index)) == [(0, 1), (1, 0)]


def test_the_median_distance_to_the_sixth_neighbour_gives_half_of_the_nodes_that_many_neighbours():
    positions = np.random.default_rng(0).uniform(size=(201, 2))
    radius = float(np.median(neighbor_distance(positions, 6)))
    degree = np.bincount(radius_graph(positions, radius)[1].numpy(), minlength=201)
    assert 100 <= (degree >= 6).sum() <= 102


@pytest.mark.parametrize("dimensions", [2, 3])
def test_delaunay_is_symmetric_connected_and_holds_every_nearest_neighbour(dimensions):
    positions = np.random.default_rng(dimensions).uniform(size=(40, dimensions))
    edge_index = delaunay_graph(positions)
    no_self_loops_no_repeats(edge_index)
    edges = set(pairs(edge_index))
    assert edges == {(destination, source) for source, destination in edges}
    # The nearest-neighbour graph is part of every Delaunay graph.
    assert set(pairs(knn_graph(positions, 1))) <= edges
    adjacency = sparse.coo_matrix((np.ones(len(edges)), tuple(edge_index.numpy())), shape=(40, 40))
    assert sparse.csgraph.connected_components(adjacency)[0] == 1


def test_delaunay_of_a_square_with_its_centre():
    positions = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1]], float)
    edges = {(a, b) for a, b in pairs(delaunay_graph(positions)) if a < b}
    assert edges == {(0, 1), (1, 2), (2, 3), (0, 3), (0, 4), (1, 4), (2, 4), (3, 4)}


@pytest.mark.parametrize(
    "positions",
    [
        np.arange(20)[:, None] * np.array([[0.1, 0.3]]),
        np.ones((20, 2)),
        np.zeros((2, 2)),
        np.c_[np.random.default_rng(0).normal(size=(20, 2)), np.zeros(20)],
    ],
    ids=["line", "point", "two", "plane"],
)
def test_delaunay_without_a_triangulation_is_refused_with_a_remedy(positions):
    with pytest.raises(FIMPError, match=r"--graph delaunay: .* train with --graph knn"):
        delaunay_graph(positions)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_row_i_of_an_adjacency_receives_from_its_columns_without_self_loops(form):
    adjacency = form(np.array([[1.0, 0.0, 2.5], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert sorted(pairs(adjacency_graph(adjacency))) == [(1, 2), (2, 0)]


def test_stored_zeros_of_an_adjacency_are_no_edges():
    adjacency = sparse.csr_matrix(([0.0, 1.0], ([0, 1], [1, 0])), shape=(3, 3))
    assert pairs(adjacency_graph(adjacency)) == [(0, 1)]


def test_principal_components_of_sparse_values_are_those_of_dense_ones():
    values = np.random.default_rng(0).poisson(1.0, (40, 12)).astype(np.float32)
    found = principal_components(sparse.csr_matrix(values), 5)
    wanted = PCA(5, svd_solver="full").fit_transform(values)
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-4)


def test_expression_graph_joins_cells_of_one_kind():
    generator = np.random.default_rng(0)
    kind = np.arange(40) % 2
    profile = np.array([[9.0] * 5 + [0.0] * 5, [0.0] * 5 + [9.0] * 5])
    values = sparse.csr_matrix(generator.poisson(profile[kind]).astype(np.float32))
    edge_index = expression_graph(values, 4)
    no_self_loops_no_repeats(edge_index)
    assert edge_index.shape == (2, 160)
    assert (kind[edge_index[0]] == kind[edge_index[1]]).all()
    assert torch.equal(edge_index, expression_graph(values, 4))


def test_expression_graph_never_makes_a_wide_matrix_dense(monkeypatch):
    values = sparse.random(40, 500, density=0.05, random_state=0, format="csr", dtype=np.float32)

    def refuse(*_, **__):
        raise AssertionError("made dense")

    monkeypatch.setattr(sparse.csr_matrix, "toarray", refuse)
    monkeypatch.setattr(sparse.csr_matrix, "todense", refuse)
    assert expression_graph(values, 3).shape == (2, 120)


@pytest.mark.parametrize("shape", [(12, 1), (1, 12), (12, 2), (2, 12)])
def test_expression_graph_of_hardly_any_cells_or_genes(shape):
    values = np.random.default_rng(0).poisson(3.0, shape) + 1.0
    edge_index = expression_graph(sparse.csr_matrix(values), 3)
    assert edge_index.size(1) == shape[0] * min(3, shape[0] - 1)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_expression_graph_of_cells_that_are_all_alike(value):
    # There is nothing to decompose; any neighbours are as good as any other.
    edge_index = expression_graph(sparse.csr_matrix(np.full((12, 5), value)), 3)
    assert edge_index.shape == (2, 36)
    no_self_loops_no_repeats(edge_index)


@given(st.integers(0, 5))
def test_shuffled_sources_keep_all_degrees(seed):
    edge_index = knn_graph(np.random.default_rng(0).uniform(size=(50, 2)), 4)
    shuffled = shuffle_sources(edge_index, seed)
    assert torch.equal(shuffled[1], edge_index[1])
    assert torch.equal(shuffled[0].sort().values, edge_index[0].sort().values)
    assert not torch.equal(shuffled[0], edge_index[0])
    assert torch.equal(shuffled, shuffle_sources(edge_index, seed))


@given(st.integers(0, 1000), st.integers(0, 60))
def test_sources_are_shuffled_within_their_section_when_there_are_some(seed, count):
    generator = np.random.default_rng(seed)
    section = torch.from_numpy(np.sort(generator.integers(0, 3, 40)))
    pairs = generator.integers(0, 40, (2, 2000))
    inside = pairs[:, section.numpy()[pairs[0]] == section.numpy()[pairs[1]]][:, :count]
    edge_index = torch.from_numpy(inside)
    shuffled = shuffle_sources(edge_index, seed, section)
    assert torch.equal(shuffled[1], edge_index[1])
    assert torch.equal(section[shuffled[0]], section[shuffled[1]])
    assert torch.equal(shuffled[0].sort().values, edge_index[0].sort().values)
    assert torch.equal(shuffle_sources(edge_index, seed, torch.zeros_like(section)), shuffle_sources(edge_index, seed))
    if count == 60:
        assert not torch.equal(shuffled, edge_index)
