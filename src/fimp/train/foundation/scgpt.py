"""Pretrain a model in scGPT's layout on cells without a graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fimp.data.cell_graph import CellGraph
from fimp.foundation.scgpt import ScGPT
from fimp.foundation.scgpt_cells import ScGPTReader
from fimp.foundation.scgpt_files import new_scgpt
from fimp.models.checkpoints import FoundationChoice
from fimp.models.foundation import FoundationBackbone
from fimp.models.registry import ModelChoice
from fimp.nn.stack_config import StackConfig
from fimp.tasks import ExpressionOptions, ExpressionTask
from fimp.tasks.base import Network
from fimp.tasks.expression import QUERIES_PER_STEP
from fimp.tasks.foundation import FoundationExpressionNetwork
from fimp.train.fit import Fitted
from fimp.train.foundation.masked import fit_new, split_groups
from fimp.train.options import TrainOptions


@dataclass(frozen=True)
class ScGPTSize:
    """Sizes of a new model, as in :func:`fimp.foundation.scgpt_files.new_scgpt`."""

    dim: int = 64
    layers: int = 4
    heads: int = 4
    hidden: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        # Sizes that do not fit together must come to light before anything is read or written.
        StackConfig(self.dim, self.heads, self.hidden, self.layers, dropout=self.dropout)


class ScGPTPretraining(ExpressionTask):
    """Masked values of cells, each cell on its own, predicted by a new scGPT model: ``sum (value - head(h))^2``.

    An eighth of the cells validates; there is no test part.

    Parameters
    ----------
    data
        From :func:`fimp.data.load_cells`; edges are not looked at.
    options, seed
        As for :class:`fimp.tasks.ExpressionTask`.
    size
        Size of the model.
    """

    def __init__(self, data: CellGraph, options: ExpressionOptions, seed: int, size: ScGPTSize) -> None:
        super().__init__(data, options, seed)
        self.size = size
        self.model: ScGPT | None = None

    def _split(self) -> dict[str, NDArray[np.int64]]:
        return split_groups(np.arange(self.data.num_nodes), self.seed)

    def network(self, choice: ModelChoice) -> Network:
        """A new model, which stays in ``model``."""
        size, measured = self.size, self.state()
        model = new_scgpt(
            self.data.gene_names,
            dim=size.dim,
            layers=size.layers,
            heads=size.heads,
            hidden=size.hidden,
            dropout=size.dropout,
        )
        self.model = model
        reader = ScGPTReader(model, self._ids, measured["gene_mean"], measured["gene_deviation"])
        backbone = FoundationBackbone(FoundationChoice("new", graph=False), choice.hyperparameters, model)
        reader.start_head()
        return FoundationExpressionNetwork(reader, backbone, measured["deviation"], QUERIES_PER_STEP, corrected=False)

    @property
    def _ids(self) -> torch.Tensor:
        return torch.arange(len(self.data.gene_names))

    def trained(self, network: Network) -> ScGPT:
        """The model with the weights of a trained network of this task."""
        assert self.model is not None
        assert isinstance(network, FoundationExpressionNetwork)
        assert isinstance(network.reader, ScGPTReader)
        network.reader.write_back(self.model, self._ids)
        return self.model.eval()


def pretrain_scgpt(
    data: CellGraph,
    size: ScGPTSize,
    options: ExpressionOptions,
    train: TrainOptions,
    seed: int = 0,
    lr: float = 3e-3,
    folder: Path | None = None,
    **arguments: Any,
) -> tuple[ScGPT, Fitted]:
    """Pretrain a new scGPT model on cells, each on its own.

    Parameters
    ----------
    data
        The cells.
    size, options, train, seed
        Sizes of the model, tokens and masks, training, and seed of everything that is drawn.
    lr
        Peak learning rate.
    folder, **arguments
        As for :func:`fimp.train.fit.fit`, resume included.

    Returns
    -------
    tuple
        The model, in evaluation mode, and how it was trained.
    """
    task = ScGPTPretraining(data, options, seed, size)
    fitted = fit_new(task, train, lr, folder, **arguments)
    return task.trained(fitted.network), fitted
