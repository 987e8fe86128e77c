"""Predict the hidden expression values of cells (paper table 1, appendix B.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from fimp.data.cell_graph import cell_values
from fimp.data.cells import CellOptions, CellReference
from fimp.data.disk_matrix import Values, row_blocks
from fimp.data.masking import CellTokens, Masking, TokenSampler
from fimp.data.splits import PART_NAMES, split_nodes
from fimp.data.statistics import depth_statistics, gene_statistics, neighbor_agreement
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.foundation.genept import gene_vectors
from fimp.models.fimp import FIMP
from fimp.models.registry import ModelChoice, default_reach
from fimp.nn.readout import mean_tokens
from fimp.tasks.attention import EdgeAttention, Keep, chosen_edges, named
from fimp.tasks.base import Network, Task, TaskKind, register
from fimp.tasks.cells import read_cells
from fimp.tasks.foundation import FoundationExpressionNetwork, read_foundation
from fimp.tasks.members import Members, default_members
from fimp.tokenizers import CellEncoder, Tokens

#: Hidden genes, over all cells of a training step, that a model of tokens answers. What a step teaches grows with
#: them, but so does its cost; where cells are few, each is asked for more.
QUERIES_PER_STEP = 4096


@dataclass(frozen=True)
class ExpressionOptions:
    """Settings of the task.

    Attributes
    ----------
    tokens
        Most genes sampled per cell and epoch, T.
    mask_ratio
        Share of the sampled genes whose value is hidden.
    zeros
        Share of tokens drawn from genes that the cell does not express; 0 as in the paper.
    split
        ``random`` or ``blocks`` (of neighbouring cells).
    normalize
        ``total``: cells scaled by their total count, the field's convention. ``visible``: what models see
        is scaled by the visible counts alone, so that no trace of the hidden counts remains.
    members
        Networks whose mean a model is, foundation models aside; None is one from 501 training cells on, and up to four
        where there are fewer (:func:`fimp.tasks.members.default_members`). All models are treated alike.

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    tokens: int = 50
    mask_ratio: float = 0.8
    zeros: float = 0.0
    split: str = "random"
    normalize: str = "total"
    members: int | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise FIMPError(f"--tokens: {self.tokens} is below 1; use 50, for instance")
        if not 0.0 < self.mask_ratio <= 1.0:
            raise FIMPError(f"mask_ratio: {self.mask_ratio} is outside (0, 1]; use 0.8, for instance")
        if not 0.0 <= self.zeros < 1.0:
            raise FIMPError(f"zeros: {self.zeros} is outside [0, 1); use 0.5, for instance")
        if self.split not in ("random", "blocks"):
            raise FIMPError(f"--split: {self.split!r} is unknown; use random or blocks")
        if self.normalize not in ("total", "visible"):
            raise FIMPError(f"--normalize: {self.normalize!r} is unknown; use total or visible")
        if self.members is not None and self.members < 1:
            raise FIMPError(f"--members: {self.members} is below 1; use 1, for instance")


class ExpressionNetwork(Network):
    """A model between a tokenizer and a head that predicts values of genes.

    Every prediction is ``mean_g + deviation * head(state, gene)``: all models start from the training mean
    of each gene and learn what differs.

    Parameters
    ----------
    choice
        Model and hyperparameters.
    gene_mean
        Mean value of each gene in training cells, ``[G]``; the start of the output bias.
    gene_deviation
        Standard deviation of each gene's values around it, ``[G]``; values are shown to models in its unit.
    deviation
        The same over all genes together.
    embedding
        Gene embeddings ``[G, W]`` for a model of tokens; learned by default.
    depth
        Mean and standard deviation of the cells' depth, as for :class:`fimp.tokenizers.CellEncoder`.
    """

    gene_mean: Tensor

    def __init__(
        self,
        choice: ModelChoice,
        gene_mean: Tensor,
        gene_deviation: Tensor,
        deviation: float,
        embedding: Tensor | None = None,
        depth: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        genes, h = len(gene_mean), choice.hyperparameters
        self.input = choice.spec.input
        self.deviation = deviation
        self.register_buffer("gene_mean", gene_mean)
        self.bias = nn.Parameter(torch.zeros(genes), requires_grad=choice.spec.trainable)
        self.hops = 0
        if self.input != "none":
            self.encoder = CellEncoder(
                self.input, gene_mean, gene_deviation, h.dim, h.decided_dropout, embedding, depth
            )
            self.model = choice.spec.backbone(h, self.encoder.out_dim, names=True)
            self.hops = self.model.hops
            # An embedding is a linear layer of which only the asked genes' rows are computed.
            self.head = nn.Embedding(genes, self.model.out_dim)
            nn.init.zeros_(self.head.weight)

    def forward(self, tokens: CellTokens, graph: Subgraph) -> Tensor:
        """Predicted values of the seeds' hidden tokens, ``[seeds, K]``.

        Hidden tokens lead a cell's row, so K is the largest number of them; in training, models of tokens
        answer only the first ones, which are a random choice, :data:`QUERIES_PER_STEP` in all.
        """
        asked = tokens.take(graph.num_seeds).asked()
        if self.input == "tokens" and self.training:
            asked = asked.columns(-(-QUERIES_PER_STEP // graph.num_step_seeds))
        base = self.gene_mean[asked.genes]
        if self.input == "none":
            return base
        if self.input == "vectors":
            h = self.model(self.vectors(tokens), graph)
            learned = nn.functional.linear(h, self.head.weight, self.bias).gather(1, asked.genes)
        else:
            h = self.model(*self._conversation(tokens, asked, asked.hidden, graph))
            learned = (h * self.head(asked.genes)).sum(-1) + self.bias[asked.genes]
        return base + self.deviation * learned

    def vectors(self, inputs: CellTokens) -> Tensor:
        """Visible values, which are visible and which are asked for, ``[n, 3 G]``; and the depth of counts."""
        return self.encoder.vectors(inputs)

    def embed(self, inputs: CellTokens, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``.

        For a model of tokens, the mean state over the cell's genes when each is asked for. Queries are hidden as
        in training, while ``inputs`` may show all values.

        Raises
        ------
        FIMPError
            If the model is not trained, and has no states.
        """
        if self.input == "none":
            raise FIMPError("embed: the model 'mean' has no states; use another model")
        if self.input == "vectors":
            out: Tensor = self.model(self.vectors(inputs), graph)
            return out
        seeds = inputs.take(graph.num_seeds)
        return mean_tokens(self.model(*self._conversation(inputs, seeds, seeds.mask, graph)), seeds.mask)

    def _conversation(
        self, tokens: CellTokens, asked: CellTokens, hidden: Tensor, graph: Subgraph
    ) -> tuple[Tensor, Tokens, Tokens, Subgraph, tuple[Tensor, Tensor]]:
        """What a model of tokens takes: what cells tell, what is asked of the seeds, the graph, and names of both."""
        encoder, visible = self.encoder, self._visible(tokens, graph)
        names = encoder.names(visible), encoder.names(asked)
        return encoder.summaries(tokens), encoder.sources(visible), encoder.queries(asked, hidden), graph, names

    def _visible(self, tokens: CellTokens, graph: Subgraph) -> CellTokens:
        """What the cells show whose tokens the model hears."""
        return tokens.take(graph.num_nodes[self.model.reach]).visible()

    def attention(
        self, inputs: CellTokens, graph: Subgraph, keep: Keep, layer: int | None = None
    ) -> Iterator[EdgeAttention]:
        """Attention of the seeds' hidden genes to visible genes; see :meth:`fimp.tasks.base.Network.attention`."""
        if layer is not None or self.input != "tokens":
            yield from super().attention(inputs, graph, keep, layer)
            return
        assert isinstance(self.model, FIMP)
        asked, visible = inputs.take(graph.num_seeds).asked(), self._visible(inputs, graph)
        loops, near = chosen_edges(graph, keep)
        told = self._conversation(inputs, asked, asked.hidden, graph)
        receivers = asked.genes.masked_fill(~asked.hidden, -1)
        senders = visible.genes.masked_fill(~visible.mask, -1)
        yield from named(self.model.attention(*told, loops=loops, near=near), receivers, senders)


class ExpressionTask(Task):
    """Masked expression prediction on a graph of cells (paper table 1, B.2); see :class:`fimp.tasks.base.Task`.

    What is trained on expressed genes alone (``zeros=0``) estimates a gene's expression *given that the
    cell expresses it*.

    Parameters
    ----------
    data
        From :func:`fimp.data.load_cells`.
    options
        Settings.
    seed
        Seed of split, draws and weights.
    state
        :meth:`state` of the task that a model was trained on, for other cells.

    Raises
    ------
    FIMPError
        If the data cannot be split, or nothing is hidden of all cells of a part.
    """

    name: ClassVar[str] = "expression"

    def __init__(
        self,
        data: Data,
        options: ExpressionOptions = ExpressionOptions(),
        seed: int = 0,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.metrics, self.monitor = {"mse": "min", "r2": "max", "r2_gene": "max"}, "r2"
        self.data, self.options, self.seed = data, options, seed
        values = cell_values(data)
        self.split = {} if state else self._split()
        self._state = state or self._measure(values)
        masking = Masking(options.tokens, options.mask_ratio, options.zeros, self._state["visible_total"])
        held_out = np.ones(data.num_nodes, dtype=bool)
        held_out[self.split.get("train", [])] = False
        self.sampler = TokenSampler(values, masking, seed, _numpy(data.scale), held_out)
        if not state:
            self._check_parts()
            self._state["depth"] = depth_statistics(self.sampler, self.split["train"])

    def _split(self) -> dict[str, NDArray[np.int64]]:
        return split_nodes(self.data, self.options, self.seed)

    def _check_parts(self) -> None:
        for part, nodes in self.split.items():
            if not self.sampler.hidden_counts(nodes).any():
                raise FIMPError(
                    f"{self.data.name}: seed {self.seed}: no {PART_NAMES[part]} cell has a value to predict; lower "
                    "--min-counts, hold out another section (--test-section), or leave out cells without counts"
                )

    def _measure(self, values: Values) -> dict[str, Any]:
        """What training cells say about genes, neighbours and totals."""
        options, training = self.options, self.split["train"]
        mean, gene_deviation, deviation = gene_statistics(values, options.tokens, options.zeros, training)
        visible_total = None
        if options.normalize == "visible":
            if self.data.scale is None:
                raise FIMPError(f"{self.data.name}: --normalize visible needs raw counts; use --normalize total")
            totals = [np.asarray(block.expm1().sum(axis=1)).ravel() for _, block in row_blocks(values, training)]
            # Visible counts keep the magnitude they have under the usual scaling.
            visible_total = float(np.median(np.concatenate(totals))) * (1.0 - options.mask_ratio)
            visible_total = max(visible_total, 1.0)
        agreement = neighbor_agreement(values, self.data.edge_index, training, mean, gene_deviation)
        return {
            "agreement": agreement,
            "gene_mean": mean,
            "gene_deviation": gene_deviation,
            "deviation": deviation,
            "visible_total": visible_total,
            "values": int(np.diff(values.indptr)[training].sum()),
            "nodes": len(training),
        }

    def state(self) -> dict[str, Any]:
        """What was measured on training cells: of genes, of neighbours, of totals, and how many cells and values."""
        return self._state

    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> CellTokens:
        """Tokens of some cells in an epoch."""
        return self.sampler.draw(nodes, epoch)

    def shown(self, nodes: NDArray[np.int64]) -> CellTokens:
        """Tokens of some cells in the evaluation draw, none of them hidden."""
        return self.sampler.draw(nodes, hide=False)

    def network(self, choice: ModelChoice) -> Network:
        """The model with gene tokenizer and expression head.

        Raises
        ------
        FIMPError
            If it is a foundation model that cannot be loaded, or that knows none of the genes.
        """
        measured = self._state
        if choice.spec.foundation is not None:
            known = self.data.gene_names, measured["gene_mean"], measured["gene_deviation"]
            reader, model = read_foundation(choice, *known)
            return FoundationExpressionNetwork(reader, model, measured["deviation"], QUERIES_PER_STEP)
        choice = choice.for_data(measured["values"], default_reach(measured["agreement"]))
        parts = measured["gene_mean"], measured["gene_deviation"], measured["deviation"]
        embedding: Tensor | None = None
        notes: tuple[str, ...] = ()
        if choice.gene_table is not None:
            embedding, report = gene_vectors(choice.gene_table, self.data.gene_names, self.data.name)
            notes = (report,)
        count = default_members(measured["nodes"]) if self.options.members is None else self.options.members
        choices = [choice.member(index) for index in range(count)] if choice.spec.trainable else [choice]
        members = [ExpressionNetwork(one, *parts, embedding, measured["depth"]) for one in choices]
        network: Network = members[0] if len(members) == 1 else Members(members)
        network.notes = notes
        return network

    def loss(self, prediction: Tensor, inputs: CellTokens) -> Tensor:
        """Mean squared error of the hidden values that were answered."""
        inputs = inputs.columns(prediction.size(1))
        squared = torch.where(inputs.hidden, prediction - inputs.targets, 0.0).square()
        return squared.sum() / inputs.hidden.sum().clamp(min=1)

    def loss_weight(self, prediction: Tensor, inputs: CellTokens) -> Tensor:
        """Number of hidden values that were answered."""
        return inputs.columns(prediction.size(1)).hidden.sum()

    def outcome(self, prediction: Tensor, inputs: CellTokens) -> tuple[Tensor, ...]:
        """Seed, prediction, truth and gene of every hidden value that was answered."""
        inputs = inputs.columns(prediction.size(1))
        hidden = inputs.hidden
        return hidden.nonzero()[:, 0], prediction[hidden], inputs.targets[hidden], inputs.genes[hidden]

    def score(self, outcome: tuple[Tensor, ...]) -> dict[str, float]:
        """Mean squared error, R2, and R2 within genes.

        R2 is 1 - SSE / SST over all hidden values, of which much is won by knowing each gene's level. R2 within genes
        measures spread from each gene's own mean instead, so that knowing levels alone scores 0. (A mean of the genes'
        R2 would be at the mercy of genes that hardly vary.) A score that does not exist is NaN.
        """
        _, predicted, truth, gene = (part.double() if part.is_floating_point() else part for part in outcome)
        squared = (predicted - truth).square().sum()
        count = torch.bincount(gene).double()
        level = torch.zeros_like(count).index_add(0, gene, truth) / count.clamp(min=1)

        def r2(spread: Tensor) -> float:
            return float(1.0 - squared / spread) if spread > 1e-12 else float("nan")

        return {
            "mse": float(squared / len(truth)) if len(truth) else float("nan"),
            "r2": r2((truth - truth.mean()).square().sum()),
            "r2_gene": r2((truth - level[gene]).square().sum()),
        }

    def node_statistics(self, outcome: tuple[Tensor, ...]) -> NDArray[np.float64]:
        """Number, sum and sum of squares of a cell's hidden values (centred), and its squared error: ``[n, 4]``."""
        node, predicted, truth = (part.numpy() for part in outcome[:3])
        place = np.unique(node, return_inverse=True)[1]
        error = predicted.astype(np.float64) - truth
        # Centring keeps the difference of squares that R2 needs precise.
        centred = truth.astype(np.float64) - truth.mean(dtype=np.float64)
        parts = (np.ones_like(centred), centred, centred**2, error**2)
        return np.stack([np.bincount(place, weights=part) for part in parts], axis=1)

    def resampled(self, statistics: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pooled R2 of resampled cells; see :meth:`fimp.tasks.Task.resampled`."""
        count, first, second, error = (weights @ statistics).T
        spread = second - first**2 / np.maximum(count, 1.0)
        out: NDArray[np.float64] = 1.0 - error / np.where(spread > 0, spread, np.nan)
        return out


def _numpy(tensor: Tensor | None) -> NDArray[np.floating] | None:
    return None if tensor is None else tensor.numpy()


register(
    TaskKind(
        ExpressionTask.name,
        CellOptions,
        ExpressionOptions,
        CellReference,
        read_cells,
        ExpressionTask,
    )
)
