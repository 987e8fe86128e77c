"""Files to graphs: readers, neighbour graphs, splits, masking, simulators and named datasets."""

from fimp.data import simulate
from fimp.data.cell_graph import CellGraph, CellReference
from fimp.data.cells import load_cells
from fimp.data.datasets import DATASETS, load_dataset
from fimp.data.graphs import adjacency_graph, delaunay_graph, expression_graph, knn_graph, radius_graph
from fimp.data.masking import CellTokens, Masking, TokenSampler
from fimp.data.options import CellOptions
from fimp.data.splits import block_split, crop, random_split, section_split, split_nodes

__all__ = [
    "DATASETS",
    "CellGraph",
    "CellOptions",
    "CellReference",
    "CellTokens",
    "Masking",
    "TokenSampler",
    "adjacency_graph",
    "block_split",
    "crop",
    "delaunay_graph",
    "expression_graph",
    "knn_graph",
    "load_cells",
    "load_dataset",
    "radius_graph",
    "random_split",
    "section_split",
    "simulate",
    "split_nodes",
]
