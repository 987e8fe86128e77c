"""Where the nodes of a graph are drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from fimp.tasks import FMRITask
from fimp.tasks.base import Task

#: Nodes of a graph without places that are drawn.
DRAWN = 150


class Layout(NamedTuple):
    """Nodes with places, and the edges between them.

    Attributes
    ----------
    nodes
        Which nodes of the task's graph they are ``[n]``; of recordings, the regions.
    xy
        Where they are drawn ``[n, 2]``.
    edges
        Edges between positions in ``nodes``, ``[2, e]``, source in row 0.
    total
        Nodes that there are.
    about
        What the places are, for a caption.
    real
        Whether they are places of the data, and not made up for the picture.
    """

    nodes: NDArray[np.int64]
    xy: NDArray[np.float64]
    edges: NDArray[np.int64]
    total: int
    about: str
    real: bool = True

    @property
    def counted(self) -> str:
        """How many nodes these are, of how many."""
        every = len(self.nodes) == self.total
        return f"All {self.total:,} nodes" if every else f"{len(self.nodes):,} of {self.total:,} nodes"


def layout_of(task: Task) -> Layout:
    """Where nodes lie: cells in their largest section, images on the map, regions seen from above, others by distance.

    Of a graph without places, the nodes nearest to its best connected one are laid out by their distances in steps.
    """
    data = task.data
    if isinstance(task, FMRITask):
        edges = task.region_edges.numpy()
        return Layout(
            np.arange(task.regions), task.xyz[:, :2].double().numpy(), edges, task.regions, "regions seen from above"
        )
    edges = data.edge_index.numpy()
    if data.get("latitude") is not None:
        xy = np.stack([data.longitude.numpy(), data.latitude.numpy()], axis=1)
        return Layout(np.arange(len(xy)), xy, edges, len(xy), "longitude and latitude")
    if data.get("pos") is not None:
        return _section(data.pos.numpy()[:, :2].astype(np.float64), edges, data)
    return _neighbourhood(edges, int(data.num_nodes))


def take(layout: Layout, keep: NDArray[np.bool_]) -> Layout:
    """Some of the nodes, and the edges between them."""
    place = np.cumsum(keep) - 1
    inside = keep[layout.edges].all(axis=0)
    return layout._replace(nodes=layout.nodes[keep], xy=layout.xy[keep], edges=place[layout.edges[:, inside]])


def _section(xy: NDArray[np.float64], edges: NDArray[np.int64], data: object) -> Layout:
    """All cells, or those of the largest section: coordinates of several sections may overlap."""
    whole = Layout(np.arange(len(xy)), xy, edges, len(xy), "places in the tissue")
    section = data.get("section")  # type: ignore[attr-defined]
    names = data.get("section_names")  # type: ignore[attr-defined]
    if section is None or not names or int(section.max()) < 1:
        return whole
    largest = int(np.bincount(section[section >= 0].numpy()).argmax())
    about = f"places in {names[largest]}, the largest of {len(names)} sections"
    return take(whole._replace(about=about), section.numpy() == largest)


def _neighbourhood(edges: NDArray[np.int64], count: int) -> Layout:
    """The surroundings of the node with most edges, laid out by classical scaling of distances in steps."""
    ones = np.ones(edges.shape[1], np.float32)
    graph = csr_array((ones, (edges[0], edges[1])), shape=(count, count))
    graph = graph + graph.T
    start = int(np.diff(graph.indptr).argmax())
    near = np.zeros(count, dtype=bool)
    near[start], ring = True, np.array([start])
    while near.sum() < DRAWN and len(ring):
        reached = np.unique(graph[ring].indices)
        # In equal parts of the table, so that one hub does not fill the picture.
        ring = reached[~near[reached]]
        room = DRAWN - int(near.sum())
        ring = ring[np.unique(np.linspace(0, len(ring) - 1, min(room, len(ring))).astype(np.int64))]
        near[ring] = True
    nodes = np.flatnonzero(near)
    steps = shortest_path(graph[nodes][:, nodes], unweighted=True, directed=False)
    square = -0.5 * np.square(steps)
    centred = square - square.mean(0) - square.mean(1)[:, None] + square.mean()
    values, vectors = np.linalg.eigh(centred)
    xy = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1][:, :2]
    xy = np.pad(xy, ((0, 0), (0, 2 - xy.shape[1])))
    about = f"the best connected node and {len(nodes) - 1} others around it, by their distance in steps"
    place = np.full(count, -1)
    place[nodes] = np.arange(len(nodes))
    inside = near[edges].all(axis=0)
    return Layout(nodes, _apart(xy), place[edges[:, inside]], count, about, real=False)


def _apart(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nodes at equal distances from all others would lie on one spot; a small spiral parts them."""
    angle = np.arange(len(xy)) * 2.4
    radius = 0.03 * np.sqrt(np.arange(len(xy))) * max(float(np.ptp(xy)), 1e-9) / max(len(xy), 1) ** 0.5
    return xy + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
