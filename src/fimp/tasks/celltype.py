"""Classify cells (paper table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from fimp.data.cell_graph import cell_values
from fimp.data.cells import CellOptions, CellReference
from fimp.data.columns import listed
from fimp.data.masking import Masking, TokenSampler
from fimp.data.splits import split_nodes
from fimp.data.statistics import depth_statistics, gene_statistics
from fimp.errors import FIMPError
from fimp.foundation.genept import gene_vectors
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, TaskKind, register
from fimp.tasks.cells import read_cells
from fimp.tasks.classification import CLASS_WEIGHTS, ClassificationNetwork, ClassificationTask, Labelled
from fimp.tasks.foundation import FoundationClassificationNetwork, read_foundation
from fimp.tokenizers import CellEncoder


@dataclass(frozen=True)
class CellTypeOptions:
    """Settings of the task.

    Attributes
    ----------
    tokens
        Most genes sampled per cell and epoch, T.
    split
        ``random`` or ``blocks`` (of neighbouring cells).
    class_weights
        ``none``, or ``balanced``: rare types weigh as much as frequent ones in the loss.

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    tokens: int = 100
    split: str = "random"
    class_weights: str = "none"

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise FIMPError(f"--tokens: {self.tokens} is below 1; use 100, for instance")
        if self.split not in ("random", "blocks"):
            raise FIMPError(f"--split: {self.split!r} is unknown; use random or blocks")
        if self.class_weights not in CLASS_WEIGHTS:
            raise FIMPError(f"--class-weights: {self.class_weights!r} is unknown; use {' or '.join(CLASS_WEIGHTS)}")


class CellTypeTask(ClassificationTask):
    """Predict a cell's label from its expressed genes and its neighbours; nothing is hidden (paper table 2).

    Parameters
    ----------
    data
        From :func:`fimp.data.load_cells` with a label.
    options
        Settings.
    seed
        Seed of split, draws and weights.
    state
        :meth:`state` of the task that a model was trained on, for other cells.

    Raises
    ------
    FIMPError
        If the data has no labels, or too few cells have one.
    """

    name: ClassVar[str] = "celltype"

    def __init__(
        self,
        data: Data,
        options: CellTypeOptions = CellTypeOptions(),
        seed: int = 0,
        state: dict[str, Any] | None = None,
    ) -> None:
        if data.y is None:
            raise FIMPError(f"{data.name}: no labels were read; name a column of obs with --label")
        self.data, self.options, self.seed = data, options, seed
        values = cell_values(data)
        scale = None if data.scale is None else data.scale.numpy()
        self.sampler = TokenSampler(values, Masking(options.tokens), seed, scale)
        self.split = {} if state else split_nodes(data, options, seed, np.flatnonzero(data.y.numpy() >= 0))
        if state is None:
            self._note_unseen()
            training = self.split["train"]
            mean, deviation, _ = gene_statistics(values, options.tokens, 0.0, training)
            depth = depth_statistics(self.sampler, training, hide=False)
            state = {"gene_mean": mean, "gene_deviation": deviation, "depth": depth}
        super().__init__(len(data.classes), options.class_weights, state)

    def _note_unseen(self) -> None:
        """Say which classes no model can know."""
        labels = self.data.y.numpy()
        seen, test = np.unique(labels[self.split["train"]]), labels[self.split["test"]]
        unseen = test[~np.isin(test, seen)]
        if not len(unseen):
            return
        names = listed([self.data.classes[code] for code in np.unique(unseen)], 5)
        note = (
            f"split of seed {self.seed}: {len(unseen):,} test cells are of classes that no training cell has ({names})"
        )
        if note not in self.data.notes:
            self.data.notes.append(note)

    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> Labelled:
        """Tokens of some cells in an epoch, all of them visible."""
        labels: torch.Tensor = self.data.y[torch.from_numpy(nodes)]
        return Labelled(self.sampler.draw(nodes, epoch, hide=False), labels)

    def network(self, choice: ModelChoice) -> Network:
        """The model with gene tokenizer and a head for the cell types.

        Raises
        ------
        FIMPError
            If it is a foundation model that cannot be loaded, or that knows none of the genes.
        """
        if choice.spec.foundation is not None:
            known = self.data.gene_names, self.measured["gene_mean"], self.measured["gene_deviation"]
            reader, model = read_foundation(choice, *known)
            return FoundationClassificationNetwork(reader, model, self.log_prior)
        choice = choice.for_data(int(self.measured["class_count"].sum()))
        h, encoder, embedding = choice.hyperparameters, None, None
        notes: tuple[str, ...] = ()
        if choice.spec.input != "none":
            mean, deviation, depth = (self.measured[key] for key in ("gene_mean", "gene_deviation", "depth"))
            if choice.gene_table is not None:
                embedding, report = gene_vectors(choice.gene_table, self.data.gene_names, self.data.name)
                notes = (report,)
            encoder = CellEncoder(choice.spec.input, mean, deviation, h.dim, h.decided_dropout, embedding, depth)
        network = ClassificationNetwork(choice, encoder, self.log_prior)
        network.notes = notes
        return network


register(
    TaskKind(
        CellTypeTask.name,
        CellOptions,
        CellTypeOptions,
        CellReference,
        read_cells,
        CellTypeTask,
    )
)
