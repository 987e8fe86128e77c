"""Classification of the nodes of any graph for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from fimp.data.node_files import write_nodes
from fimp.estimators.base import GraphModel
from fimp.tasks.node import NodeTask

#: Where a run folder keeps a graph that had no file.
GRAPH = "graph.npz"


class NodeModel(GraphModel):
    """Predict the class of a node from its features and its neighbours.

    Parameters
    ----------
    data
        An .npz file, the name of a dataset of PyG, or a ``torch_geometric.data.Data``; see
        :func:`fimp.data.read_nodes`.
    model
        A name that ``fimp compare node --models`` knows, such as ``"fimp-base"`` or ``"gcn"``.
    seed
        Seed of split, draws and weights.
    **options
        Any field of :class:`fimp.data.NodeOptions`, :class:`fimp.tasks.NodeTaskOptions` (``tokenizer``, ...),
        :class:`fimp.train.TrainOptions` or :class:`fimp.models.Hyperparameters`.

    Raises
    ------
    FIMPError
        If the graph or an option cannot be used.

    Examples
    --------
    >>> import fimp, torch
    >>> from torch_geometric.data import Data
    >>> ring = torch.stack([torch.arange(60), torch.arange(60).roll(1)])
    >>> data = Data(x=torch.eye(60), edge_index=ring, y=torch.arange(60) // 20)
    >>> model = fimp.NodeModel(data, model="gcn", undirected=True, dim=16)
    >>> model.fit(max_epochs=2)
    NodeModel(gcn on Data: 60 nodes, 60 features, 120 edges; trained for 2 epochs)
    >>> model.predict_proba().shape
    (60, 3)
    """

    task_name: ClassVar[str] = NodeTask.name
    nodes: ClassVar[str] = "nodes"
    task: NodeTask

    def __init__(self, data: str | Path | Data, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        super().__init__(data, model, seed, **options)

    def predict(self, data: str | Path | Data | None = None) -> NDArray[np.int64]:
        """The most probable class of every node, labelled or not.

        Parameters
        ----------
        data
            Another graph with the same features, labelled or not; the one given at construction by default.

        Returns
        -------
        ndarray
            ``[nodes]`` classes.
        """
        return self.predict_proba(data).argmax(axis=1)

    def predict_proba(self, data: str | Path | Data | None = None) -> NDArray[np.float32]:
        """Probability of every class for every node, ``[nodes, classes]``; see :meth:`predict`."""
        return torch.from_numpy(self._outputs(data, self.network)).softmax(1).numpy()

    def save(self, path: str | Path) -> None:
        """Write a folder that :func:`fimp.load` reads: configuration, weights, and a graph that had no file."""
        super().save(path)
        if self.config.source is None:
            write_nodes(Path(path) / GRAPH, self.data)

    def _own_data(self, folder: Path) -> Data:
        return self._read(folder / GRAPH) if self.config.source is None else super()._own_data(folder)

    def _contents(self) -> str:
        data = self.data
        return f"{data.num_nodes} nodes, {data.x.size(1)} features, {data.edge_index.size(1)} edges"
