"""Neighbour graphs: who sends messages to whom."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from fimp.errors import FIMPError


def knn_graph(positions: NDArray[np.floating], neighbors: int) -> Tensor:
    """Every node receives from its ``neighbors`` nearest other nodes: ``edge_index [2, N * neighbors]``.

    Parameters
    ----------
    positions
        Coordinates ``[N, dimensions]``. Nodes at the same place are neighbours of each other.
    neighbors
        Number of neighbours; N - 1 where there are fewer other nodes.
    """
    from sklearn.neighbors import NearestNeighbors

    count = len(positions)
    neighbors = min(neighbors, count - 1)
    if neighbors < 1:
        return torch.zeros(2, 0, dtype=torch.int64)
    # Without an argument a node is not its own neighbour, even among nodes at one place.
    near = NearestNeighbors(n_neighbors=neighbors).fit(positions).kneighbors(return_distance=False)
    return _edges(near.ravel(), np.repeat(np.arange(count), neighbors))


def radius_graph(positions: NDArray[np.floating], radius: float) -> Tensor:
    """Every node receives from all other nodes within a radius: ``edge_index [2, E]``.

    Parameters
    ----------
    positions
        Coordinates ``[N, dimensions]``.
    radius
        Greatest distance of a neighbour, in the unit of the coordinates.
    """
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(radius=radius).fit(positions).radius_neighbors(return_distance=False)
    counts = np.array([len(found) for found in near])
    return _edges(np.concatenate([*near, np.zeros(0, np.int64)]), np.repeat(np.arange(len(positions)), counts))


def neighbor_distance(positions: NDArray[np.floating], neighbors: int) -> NDArray[np.floating]:
    """Distance of each of at least two nodes to its ``neighbors``-th nearest other node, ``[N]``."""
    from sklearn.neighbors import NearestNeighbors

    neighbors = min(neighbors, len(positions) - 1)
    distance: NDArray[np.floating] = NearestNeighbors(n_neighbors=neighbors).fit(positions).kneighbors()[0]
    return distance[:, -1]


def delaunay_graph(positions: NDArray[np.floating]) -> Tensor:
    """Edges of the Delaunay triangulation (2-D) or tetrahedralisation (3-D), both directions: ``edge_index [2, E]``.

    Parameters
    ----------
    positions
        Coordinates ``[N, 2]`` or ``[N, 3]``.

    Raises
    ------
    FIMPError
        If the nodes are too few, or lie on a line (2-D) or plane (3-D).
    """
    from scipy.spatial import Delaunay, QhullError

    try:
        simplices = Delaunay(positions).simplices
    except (QhullError, ValueError) as error:
        raise FIMPError(
            f"--graph delaunay: {len(positions)} nodes in {positions.shape[1]}-D have no triangulation "
            "(too few, or on one line or plane); train with --graph knn"
        ) from error
    corners = range(simplices.shape[1])
    pairs = np.concatenate([simplices[:, [a, b]] for a in corners for b in corners if a != b])
    pairs = np.unique(pairs, axis=0)
    return _edges(pairs[:, 0], pairs[:, 1])


def adjacency_graph(adjacency: sparse.spmatrix) -> Tensor:
    """Edges of a connectivity matrix: ``edge_index [2, E]``.

    Parameters
    ----------
    adjacency
        ``[N, N]``; row i lists the nodes that i receives from. Weights and the diagonal are ignored.
    """
    matrix = sparse.coo_matrix(adjacency)
    keep = (matrix.data != 0) & (matrix.row != matrix.col)
    return _edges(matrix.col[keep], matrix.row[keep])


def expression_graph(values: sparse.csr_matrix, neighbors: int, components: int = 50) -> Tensor:
    """K nearest neighbours in the principal components of expression, for cells without coordinates.

    Parameters
    ----------
    values
        Expression ``[N, G]``.
    neighbors
        Number of neighbours (:func:`knn_graph`).
    components
        Most principal components.

    Returns
    -------
    Tensor
        ``edge_index [2, N * neighbors]``.
    """
    return knn_graph(principal_components(values, components), neighbors)


def principal_components(values: sparse.csr_matrix, most: int) -> NDArray[np.floating]:
    """Up to ``most`` principal components ``[N, components]`` of sparse values ``[N, G]``, never made dense."""
    from sklearn.decomposition import PCA

    most = min(most, min(values.shape) - 1)
    if most < 1:
        return np.asarray(values.toarray())
    # arpack cannot start where nothing varies.
    if (values.max(axis=0) - values.min(axis=0)).nnz == 0:
        return np.zeros((values.shape[0], 1))
    # arpack accepts sparse input and never centres it explicitly; its start vector is seeded.
    reduced: NDArray[np.floating] = PCA(most, svd_solver="arpack", random_state=0).fit_transform(
        values.astype(np.float64)
    )
    return reduced


def shuffle_sources(edge_index: Tensor, seed: int, section: Tensor | None = None) -> Tensor:
    """Control: permute the sources of all edges, keeping every in- and out-degree.

    Parameters
    ----------
    edge_index
        Edges ``[2, E]``.
    seed
        Seed of the permutation.
    section
        Section of each node ``[N]``; sources then change places within a section only.
    """
    order = np.random.default_rng(seed).permutation(edge_index.size(1))
    place = np.arange(len(order))
    if section is not None:
        # The k-th edge of a section takes the source of the k-th edge that the permutation has of it.
        of_edge = section[edge_index[1]].numpy()
        place, order = np.argsort(of_edge, kind="stable"), order[np.argsort(of_edge[order], kind="stable")]
    sources = torch.empty_like(edge_index[0])
    sources[torch.from_numpy(place)] = edge_index[0, torch.from_numpy(order)]
    return torch.stack([sources, edge_index[1]])


def _edges(src: NDArray, dst: NDArray) -> Tensor:
    return torch.from_numpy(np.stack([src.astype(np.int64), dst.astype(np.int64)]))
