"""Predict the hidden expression values of cells (paper table 1, appendix B.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.data import Data

from fimp.data.cells import to_scipy
from fimp.data.graphs import shuffle_sources
from fimp.data.masking import CellTokens, Masking, TokenSampler, zero_tokens
from fimp.data.splits import block_split, random_split
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.fimp import FIMP
from fimp.models.registry import Backbone, ModelChoice
from fimp.nn.readout import mean_tokens
from fimp.tasks.base import PARTS, Network
from fimp.tokenizers import CellToken, GeneProfile, GeneTokenizer, Tokens

#: Hidden genes, over all cells of a training step, that a model of tokens answers. What a step teaches grows with
#: them, but so does its cost; where cells are few, each is asked for more.
QUERIES_PER_STEP = 4096
#: Training values below which models of tokens drop more than their own dropout, and the most they drop then.
PLENTY, MOST_DROPOUT = 50_000, 0.3


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
    """

    tokens: int = 50
    mask_ratio: float = 0.8
    zeros: float = 0.0
    split: str = "random"
    normalize: str = "total"

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
    """

    gene_mean: Tensor
    gene_deviation: Tensor
    model: Backbone

    def __init__(self, choice: ModelChoice, gene_mean: Tensor, gene_deviation: Tensor, deviation: float) -> None:
        super().__init__()
        genes, h = len(gene_mean), choice.hyperparameters
        self.input = choice.spec.input
        self.deviation = deviation
        self.register_buffer("gene_mean", gene_mean)
        self.register_buffer("gene_deviation", gene_deviation)
        self.bias = nn.Parameter(torch.zeros(genes), requires_grad=choice.spec.trainable)
        self.hops = 0
        if self.input == "tokens":
            self.tokenizer = GeneTokenizer(genes, h.dim)
            self.cell_token = CellToken(genes, h.dim, h.dropout)
        elif self.input == "vectors":
            self.profile = GeneProfile(genes)
        if self.input != "none":
            self.model = choice.spec.build(h, h.dim if self.input == "tokens" else 3 * genes)
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
            asked = asked.columns(-(-QUERIES_PER_STEP // graph.num_seeds))
        base = self.gene_mean[asked.genes]
        if self.input == "none":
            return base
        if self.input == "vectors":
            h = self._vectors(tokens, graph)
            learned = nn.functional.linear(h, self.head.weight, self.bias).gather(1, asked.genes)
        else:
            h = self.model(*self._sources(tokens, graph), self._tokens(asked, asked.hidden), graph)
            learned = (h * self.head(asked.genes)).sum(-1) + self.bias[asked.genes]
        return base + self.deviation * learned

    def embed(self, tokens: CellTokens, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``.

        For a model of tokens, the mean state over the cell's genes when each is asked for. Queries are hidden as
        in training, while ``tokens`` may show all values.
        """
        if self.input == "none":
            raise FIMPError("embed: the model 'mean' has no states; use another model")
        if self.input == "vectors":
            return self._vectors(tokens, graph)
        seeds = tokens.take(graph.num_seeds)
        queries = self._tokens(seeds, seeds.mask)
        return mean_tokens(self.model(*self._sources(tokens, graph), queries, graph), seeds.mask)

    def attention(self, tokens: CellTokens, graph: Subgraph) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Attention of the seeds' hidden genes to their neighbours' visible genes, in chunks of edges.

        Yields
        ------
        tuple
            Attention ``[e, T, S]``, and the genes of its rows ``[e, T]`` and columns ``[e, S]``; -1 where there is
            no such token.
        """
        if not isinstance(self.model, FIMP):
            raise FIMPError("attention: the model has no cross-node attention; use fimp-base")
        asked, visible = tokens.take(graph.num_seeds).asked(), tokens.take(graph.num_nodes[1]).visible()
        receivers = asked.genes.masked_fill(~asked.hidden, -1)
        senders = visible.genes.masked_fill(~visible.mask, -1)
        start = 0
        queries = self._tokens(asked, asked.hidden)
        for weights in self.model.attention(*self._sources(tokens, graph), queries, graph):
            src, dst = graph.edge_index[:, start : start + len(weights)]
            start += len(weights)
            yield weights, receivers[dst], senders[src]

    def _standardise(self, tokens: CellTokens) -> Tensor:
        return (tokens.values - self.gene_mean[tokens.genes]) / self.gene_deviation[tokens.genes]

    def _vectors(self, tokens: CellTokens, graph: Subgraph) -> Tensor:
        return self.model(self.profile(tokens.genes, self._standardise(tokens), tokens.mask, tokens.hidden), graph)

    def _tokens(self, tokens: CellTokens, hidden: Tensor) -> Tokens:
        return self.tokenizer(tokens.genes, self._standardise(tokens), tokens.mask, hidden)

    def _sources(self, tokens: CellTokens, graph: Subgraph) -> tuple[Tensor, Tokens]:
        """Cell tokens of all nodes, and the visible tokens of the nodes within one hop."""
        cells = self.cell_token(tokens.genes, self._standardise(tokens), tokens.mask, tokens.hidden, self.tokenizer)
        shown = tokens.take(graph.num_nodes[1]).visible()
        return cells, self.tokenizer(shown.genes, self._standardise(shown), shown.mask)


class ExpressionTask:
    """Masked expression prediction on a graph of cells; see :class:`fimp.tasks.base.Task`.

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
    """

    name: ClassVar[str] = "expression"
    metrics: ClassVar[dict[str, str]] = {"mse": "min", "r2": "max", "r2_gene": "max"}
    monitor: ClassVar[str] = "r2"

    def __init__(self, data: Data, options: ExpressionOptions = ExpressionOptions(), seed: int = 0) -> None:
        self.data, self.options, self.seed = data, options, seed
        values = to_scipy(data.x)
        if options.split == "blocks":
            if data.pos is None:
                raise FIMPError(f"{data.name}: --split blocks needs coordinates; use --split random")
            parts = block_split(data.pos.numpy(), seed)
        else:
            parts = random_split(data.num_nodes, seed)
        self.split = dict(zip(PARTS, parts, strict=True))
        self.sampler = TokenSampler(values, _masking(data, values, options), seed, _numpy(data.scale))
        train = values[self.split["train"]]
        self.train_values = int(train.nnz)
        self.gene_mean, self.gene_deviation, self.deviation = gene_statistics(train, options.tokens, options.zeros)

    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> CellTokens:
        """Tokens of some cells in an epoch."""
        return self.sampler.draw(nodes, epoch)

    def network(self, choice: ModelChoice) -> ExpressionNetwork:
        """The model with gene tokenizer and expression head."""
        h = choice.hyperparameters
        if choice.spec.input == "tokens":
            h = replace(h, dropout=scaled_dropout(h.dropout, self.train_values))
            choice = replace(choice, hyperparameters=h)
        return ExpressionNetwork(choice, self.gene_mean, self.gene_deviation, self.deviation)

    def edges(self, choice: ModelChoice) -> Tensor:
        """Edges ``[2, E]`` after the model's control."""
        edge_index: Tensor = self.data.edge_index
        if choice.control == "no-edges":
            return edge_index[:, :0]
        return shuffle_sources(edge_index, self.seed) if choice.control else edge_index

    def loss(self, prediction: Tensor, inputs: CellTokens) -> Tensor:
        """Mean squared error of the hidden values that were answered."""
        inputs = inputs.columns(prediction.size(1))
        squared = torch.where(inputs.hidden, prediction - inputs.targets, 0.0).square()
        return squared.sum() / inputs.hidden.sum().clamp(min=1)

    def outcome(self, prediction: Tensor, inputs: CellTokens) -> tuple[Tensor, ...]:
        """Prediction, truth and gene of every hidden value that was answered."""
        inputs = inputs.columns(prediction.size(1))
        hidden = inputs.hidden
        return prediction[hidden], inputs.targets[hidden], inputs.genes[hidden]

    def score(self, outcome: tuple[Tensor, ...]) -> dict[str, float]:
        """Mean squared error, pooled R2, and the mean over genes of each gene's own R2.

        R2 is 1 - SSE / SST over all hidden values. A gene needs ten values, not all equal, for an R2 of
        its own (two, where no gene has ten): on fewer it is mostly noise, without a lower bound. A score that
        does not exist is NaN.
        """
        predicted, truth, gene = (part.double() if part.is_floating_point() else part for part in outcome)
        error = (predicted - truth).square()
        size = int(gene.max()) + 1 if len(gene) else 0

        def per_gene(values: Tensor) -> Tensor:
            return torch.zeros(size, dtype=torch.float64).index_add(0, gene, values)

        count = per_gene(torch.ones_like(truth))
        centred = truth - (per_gene(truth) / count.clamp(min=1))[gene]
        spread = per_gene(centred.square())
        enough = 10 if (count >= 10).any() else 2
        has_r2 = (count >= enough) & (spread > 1e-12)
        r2_gene = 1.0 - per_gene(error)[has_r2] / spread[has_r2]
        total = (truth - truth.mean()).square().sum()
        return {
            "mse": float(error.mean()),
            "r2": float(1.0 - error.sum() / total) if total > 0 else float("nan"),
            "r2_gene": float(r2_gene.mean()),
        }


def scaled_dropout(dropout: float, values: int) -> float:
    """Dropout for a training part of some size, so that one default serves many cells and few.

    A rule of thumb: the model's own from :data:`PLENTY` values on; below, it grows with one over the root of
    their number, as errors of estimates do, up to :data:`MOST_DROPOUT`.
    """
    return dropout * max(1.0, min(MOST_DROPOUT / max(dropout, 1e-9), (PLENTY / max(values, 1)) ** 0.5))


def gene_statistics(values: sparse.csr_matrix, tokens: int, zeros: float) -> tuple[Tensor, Tensor, float]:
    """Mean and deviation of each gene among the tokens that training draws.

    Parameters
    ----------
    values
        Values of the training cells, CSR ``[n, G]``.
    tokens, zeros
        As in :class:`ExpressionOptions`; each token counts with its probability of being drawn.

    Returns
    -------
    tuple
        Means ``[G]``, deviations ``[G]`` and the deviation over all genes. Genes that are seen rarely
        are drawn towards all genes together.
    """
    genes = values.shape[1]
    expressed = np.diff(values.indptr).astype(np.float64)
    absent = zero_tokens(tokens, zeros)
    chance = np.minimum(1.0, (tokens - absent) / np.maximum(expressed, 1))
    zero_chance = np.minimum(1.0, absent / np.maximum(genes - expressed, 1))
    of_entry, gene, value = np.repeat(chance, expressed.astype(int)), values.indices, values.data.astype(np.float64)

    def total(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(gene, weights=weights, minlength=genes).astype(np.float64)

    # A zero token has the value 0: it adds weight and nothing else.
    of_zero = zero_chance.sum() - total(np.repeat(zero_chance, expressed.astype(int)))
    weight = total(of_entry) + of_zero
    all_weight = max(float(weight.sum()), 1e-12)
    overall = float((of_entry * value).sum() / all_weight)
    mean = (total(of_entry * value) + overall) / (weight + 1.0)
    spread = total(of_entry * (value - mean[gene]) ** 2) + of_zero * mean**2
    variance = max(float(spread.sum() / all_weight), 1e-6)
    deviation = np.sqrt((spread + 5.0 * variance) / (weight + 5.0))
    as_tensor = [torch.from_numpy(array.astype(np.float32)) for array in (mean, deviation)]
    return as_tensor[0], as_tensor[1], variance**0.5


def _masking(data: Data, values: sparse.csr_matrix, options: ExpressionOptions) -> Masking:
    visible_total = None
    if options.normalize == "visible":
        if data.scale is None:
            raise FIMPError(f"{data.name}: --normalize visible needs raw counts; use --normalize total")
        total = values.copy()
        total.data = np.expm1(total.data)
        # Visible counts keep the magnitude they have under the usual scaling.
        visible_total = float(np.median(np.asarray(total.sum(axis=1)))) * (1.0 - options.mask_ratio)
        visible_total = max(visible_total, 1.0)
    return Masking(options.tokens, options.mask_ratio, options.zeros, visible_total)


def _numpy(tensor: Tensor | None) -> NDArray[np.floating] | None:
    return None if tensor is None else tensor.numpy()
