"""Files to graphs: readers, neighbour graphs, splits, masking, simulators and named datasets."""

from fimp.data import simulate
from fimp.data.cell_graph import CellGraph, CellReference
from fimp.data.cells import load_cells
from fimp.data.datasets import DATASETS, load_dataset
from fimp.data.geography import geographic_graph, unit_vectors
from fimp.data.graphs import adjacency_graph, delaunay_graph, expression_graph, knn_graph, radius_graph
from fimp.data.masking import CellTokens, Masking, TokenSampler
from fimp.data.node_files import write_nodes
from fimp.data.nodes import NodeOptions, read_nodes
from fimp.data.options import CellOptions
from fimp.data.place_splits import split_places
from fimp.data.places import PlaceOptions, read_places
from fimp.data.pyg import PYG_DATASETS
from fimp.data.recordings import Recording, Recordings, read_recordings, write_recordings
from fimp.data.regions import Regions
from fimp.data.scaling import RobustScale
from fimp.data.splits import block_split, crop, random_split, section_split, split_nodes

__all__ = [
    "DATASETS",
    "PYG_DATASETS",
    "CellGraph",
    "CellOptions",
    "CellReference",
    "CellTokens",
    "Masking",
    "NodeOptions",
    "PlaceOptions",
    "Recording",
    "Recordings",
    "Regions",
    "RobustScale",
    "TokenSampler",
    "adjacency_graph",
    "block_split",
    "crop",
    "delaunay_graph",
    "expression_graph",
    "geographic_graph",
    "knn_graph",
    "load_cells",
    "load_dataset",
    "radius_graph",
    "random_split",
    "read_nodes",
    "read_places",
    "read_recordings",
    "section_split",
    "simulate",
    "split_nodes",
    "split_places",
    "unit_vectors",
    "write_nodes",
    "write_recordings",
]
