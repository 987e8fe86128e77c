"""What the notebook classes of tasks on cells share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data

from fimp.data.cells import CellGraph
from fimp.data.storage import pack, unpack
from fimp.estimators.base import GraphModel
from fimp.train.checkpoint import load_tree, save_tree

if TYPE_CHECKING:
    from anndata import AnnData

    Source: TypeAlias = AnnData | str | Path | Sequence[AnnData | str | Path]

#: Where a run folder keeps data that had no file.
DATA = "data.safetensors"


class CellModel(GraphModel):
    """A model of cells for one task; see its subclasses.

    Parameters
    ----------
    adata
        AnnData, path of an .h5ad file, name of a dataset, or a list of these. See :func:`fimp.data.load_cells`
        for what is read from it.
    model, seed, **options
        As for :class:`fimp.estimators.GraphModel`.
    """

    nodes: ClassVar[str] = "cells"
    data: CellGraph

    def __init__(self, adata: Source, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        super().__init__(adata, model, seed, **options)

    def embed(self, adata: Source | None = None) -> NDArray[np.float32]:
        """One vector per cell ``[cells, D]``, with none of its sampled values hidden.

        Parameters
        ----------
        adata
            Other cells, as for :meth:`predict`; the cells given at construction by default.
        """
        return super().embed(adata)

    def task_on(self, adata: Source | None) -> Any:
        """The task on other cells, which need not be in any part of a split; the model's own task for None.

        Genes are matched by name: a gene that the cells lack counts as not expressed, one that the model does not
        know is left out; ``task.data.notes`` tells how many. Counts are scaled to the total that the model was
        trained with.

        Raises
        ------
        FIMPError
            If no gene matches, or counts are given to a model of continuous values or the reverse.
        """
        return super().task_on(adata)

    @classmethod
    def load(cls, path: str | Path, adata: Source | None = None) -> Self:
        """Read a folder that :meth:`save` or ``fimp compare`` wrote; see :func:`fimp.load`.

        Raises
        ------
        FIMPError
            As :func:`fimp.load`.
        """
        return super().load(path, adata)

    def save(self, path: str | Path) -> None:
        """Write a folder that :func:`fimp.load` reads: configuration, weights, and cells that had no file."""
        cells = pack(self.data) if self.config.source is None else None
        super().save(path)
        if cells is not None:
            save_tree(cells, Path(path) / DATA)

    def _own_data(self, folder: Path) -> Data:
        if self.config.source is None:
            return unpack(load_tree(folder / DATA), str(folder / DATA))
        return super()._own_data(folder)

    def _contents(self) -> str:
        data = self.data
        return f"{data.num_nodes} cells, {len(data.gene_names)} genes, {data.edge_index.size(1)} edges"
