"""Networks of tasks between which and their data stands a foundation model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fimp.data.masking import CellTokens
from fimp.data.subgraph import Subgraph
from fimp.foundation.cells import CellReader
from fimp.models.foundation import FoundationBackbone
from fimp.nn.readout import mean_tokens
from fimp.tasks.base import Network


class FoundationExpressionNetwork(Network):
    """Predicts hidden values of genes with a foundation model.

    What the model says itself (its own expression head, where it has one) is corrected by a linear head per gene that
    starts at zero: ``predict(h) + deviation * (head_g h + bias_g)``.

    Parameters
    ----------
    reader
        Cells in the model's words.
    model
        Its layers, and the graph.
    deviation
        Standard deviation of values around the mean of their gene.
    queries
        Hidden genes, over all cells of a training step, that are answered.
    corrected
        Whether there is such a correction; pretraining goes without.
    """

    def __init__(
        self, reader: CellReader, model: FoundationBackbone, deviation: float, queries: int, corrected: bool = True
    ) -> None:
        super().__init__()
        genes = len(reader.gene_mean)
        self.reader, self.model, self.hops = reader, model, model.hops
        self.deviation, self.queries = deviation, queries
        self.head = nn.Embedding.from_pretrained(torch.zeros(genes, model.out_dim), freeze=False) if corrected else None
        self.bias = nn.Parameter(torch.zeros(genes)) if corrected else None

    def forward(self, tokens: CellTokens, graph: Subgraph) -> Tensor:
        """Predicted values of the seeds' hidden tokens, ``[seeds, K]``; in training, of as many as are answered."""
        asked = tokens.take(graph.num_seeds).asked()
        if self.training:
            asked = asked.columns(-(-self.queries // graph.num_seeds))
        h = self._states(tokens, asked, graph)
        out = self.reader.predict(h, asked.genes)
        if self.head is None or self.bias is None:
            return out
        return out + self.deviation * ((h * self.head(asked.genes)).sum(-1) + self.bias[asked.genes])

    def embed(self, inputs: CellTokens, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``: the mean state over the cell's genes when each is asked for."""
        seeds = inputs.take(graph.num_seeds)
        return mean_tokens(self._states(inputs, seeds, graph), seeds.mask)

    def _states(self, tokens: CellTokens, asked: CellTokens, graph: Subgraph) -> Tensor:
        visible = tokens.take(graph.num_nodes[self.hops]).visible()
        out: Tensor = self.model(self.reader.queries(asked), self.reader.sources(visible), graph)
        return out
