"""Classify the nodes of any graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.cells import to_scipy
from fimp.data.masking import Masking, TokenSampler
from fimp.data.nodes import NodeOptions, NodeReference, read_nodes
from fimp.data.splits import random_split
from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice
from fimp.tasks.base import PARTS, TaskKind, register
from fimp.tasks.classification import CLASS_WEIGHTS, ClassificationNetwork, ClassificationTask, Labelled
from fimp.tokenizers.feature import FeatureEncoder
from fimp.tokenizers.grouped import DenseFeatures, GroupedEncoder

TOKENIZERS = ("auto", "features", "grouped")


@dataclass(frozen=True)
class NodeTaskOptions:
    """Settings of the task.

    Attributes
    ----------
    tokens
        Most nonzero features that become tokens of a node, drawn anew in every epoch.
    tokenizer
        ``features``: a token per nonzero feature. ``grouped``: a token per group of features. ``auto``: the former
        where a node has at most ``2 * tokens`` nonzero features on average.
    groups
        Groups of features, for ``grouped``.
    class_weights
        ``none``, or ``balanced``: rare classes weigh as much as frequent ones in the loss.

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    tokens: int = 64
    tokenizer: str = "auto"
    groups: int = 16
    class_weights: str = "none"

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise FIMPError(f"--tokens: {self.tokens} is below 1; use 64, for instance")
        if self.groups < 1:
            raise FIMPError(f"--groups: {self.groups} is below 1; use 16, for instance")
        if self.tokenizer not in TOKENIZERS:
            raise FIMPError(f"--tokenizer: {self.tokenizer!r} is unknown; use {', '.join(TOKENIZERS)}")
        if self.class_weights not in CLASS_WEIGHTS:
            raise FIMPError(f"--class-weights: {self.class_weights!r} is unknown; use {' or '.join(CLASS_WEIGHTS)}")


class NodeTask(ClassificationTask):
    """Predict the class of a node from its features and its neighbours; nothing is hidden.

    Parameters
    ----------
    data
        From :func:`fimp.data.read_nodes`. Of S published splits, seed k uses number k mod S; where there is
        none, labelled nodes are split at random.
    options
        Settings.
    seed
        Seed of split, draws and weights.
    state
        :meth:`state` of the task that a model was trained on, for other nodes.
    """

    name: ClassVar[str] = "node"

    ranks_two_classes: ClassVar[bool] = True

    def __init__(
        self,
        data: Data,
        options: NodeTaskOptions = NodeTaskOptions(),
        seed: int = 0,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.data, self.options, self.seed = data, options, seed
        self.split = {} if state else _split(data, seed)
        values = to_scipy(data.x) if data.x.layout == torch.sparse_csr else sparse.csr_matrix(data.x.numpy())
        if state is None:
            kind = options.tokenizer
            if kind == "auto":
                kind = "features" if values.nnz <= 2 * options.tokens * data.num_nodes else "grouped"
            mean, deviation = feature_statistics(values, nonzero=kind == "features")
            state = {"mean": mean, "deviation": deviation, "tokenizer": kind}
        self.sampler: TokenSampler | None = None
        if state["tokenizer"] == "features":
            # All features are drawn, and so told to every model; the order of the draw decides which become tokens.
            most = max(1, int(np.diff(values.indptr).max()))
            self.sampler = TokenSampler(values, Masking(most), seed)
        super().__init__(data.num_classes, options.class_weights, state)

    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> Labelled:
        """Features of some nodes in an epoch, all of them visible, and their classes."""
        labels: Tensor = self.data.y[torch.from_numpy(nodes)]
        if self.sampler is None:
            return Labelled(DenseFeatures(_rows(self.data.x, nodes)), labels)
        return Labelled(self.sampler.draw(nodes, epoch, hide=False), labels)

    def network(self, choice: ModelChoice) -> ClassificationNetwork:
        """The model with the tokenizer of these features and a head for the classes.

        Raises
        ------
        FIMPError
            If it is a foundation model: those read cells.
        """
        if choice.spec.foundation is not None:
            raise FIMPError(
                f"--models: {choice.name} reads cells, and the nodes of {self.data.name} are none; "
                "use it with expression or celltype"
            )
        if choice.gene_table is not None:
            raise FIMPError(
                f"--models: {choice.name} has embeddings of genes, and features of {self.data.name} are none"
            )
        choice = choice.for_data(int(self.measured["class_count"].sum()))
        h, measured = choice.hyperparameters, self.measured
        shared = (choice.spec.input, measured["mean"], measured["deviation"], h.dim, h.decided_dropout)
        encoder: Any = None
        if choice.spec.input != "none":
            if self.sampler is None:
                encoder = GroupedEncoder(*shared, self.options.groups)
            else:
                encoder = FeatureEncoder(*shared, self.options.tokens)
        return ClassificationNetwork(choice, encoder, self.log_prior)


def _split(data: Data, seed: int) -> dict[str, NDArray[np.int64]]:
    if data.get("train_mask") is None:
        labelled = np.flatnonzero(data.y.numpy() >= 0)
        parts = random_split(len(labelled), seed)
        return {part: labelled[chosen] for part, chosen in zip(PARTS, parts, strict=True)}
    masks = {part: data[f"{part}_mask"] for part in PARTS}
    return {part: np.flatnonzero(mask[seed % len(mask)].numpy()) for part, mask in masks.items()}


def _rows(x: Tensor, nodes: NDArray[np.int64]) -> Tensor:
    if x.layout == torch.strided:
        return x[torch.from_numpy(nodes)]
    return torch.from_numpy(to_scipy(x)[nodes].toarray())


def feature_statistics(values: sparse.csr_matrix, nonzero: bool) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over all nodes.

    Test nodes count too, as is usual where the whole graph is known in training: their features are seen
    through their neighbours anyway, and labels play no part.

    Parameters
    ----------
    values
        Features ``[N, F]``.
    nonzero
        Only over nodes in which the feature is not zero.

    Returns
    -------
    tuple
        Means ``[F]`` and deviations ``[F]``; 1 in place of a deviation that is none.
    """
    rows, columns = values.shape
    entry, stored = values.data.astype(np.float64), np.bincount(values.indices, minlength=columns)
    count = np.maximum(stored, 1) if nonzero else np.full(columns, rows)
    mean = np.bincount(values.indices, weights=entry, minlength=columns) / count
    spread = np.bincount(values.indices, weights=(entry - mean[values.indices]) ** 2, minlength=columns)
    if not nonzero:
        spread = spread + (rows - stored) * mean**2
    deviation = np.sqrt(spread / count)
    deviation[deviation <= 1e-6 * np.abs(mean)] = 1.0
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32))


register(
    TaskKind(
        NodeTask.name,
        NodeOptions,
        NodeTaskOptions,
        NodeReference,
        read_nodes,
        NodeTask,
    )
)
