"""Networks of tasks between which and their data stands a foundation model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from fimp.data.masking import CellTokens
from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.foundation import FoundationModel
from fimp.foundation.brainlm_recordings import RecordingReader
from fimp.foundation.cells import CellReader
from fimp.foundation.vit_images import ImageReader
from fimp.models.foundation import FoundationBackbone, load_foundation
from fimp.models.registry import ModelChoice
from fimp.nn.readout import mean_tokens
from fimp.tasks.attention import EdgeAttention, Keep, named
from fimp.tasks.base import Network
from fimp.tasks.classification import Labelled
from fimp.tokenizers.base import Tokens
from fimp.tokenizers.window import WindowInputs


def read_foundation(
    choice: ModelChoice, genes: Sequence[str], gene_mean: Tensor, gene_deviation: Tensor
) -> tuple[CellReader, FoundationBackbone]:
    """Load the checkpoint of a choice, for cells with some genes.

    Parameters
    ----------
    choice
        ``fimp:FOLDER`` or ``fm:FOLDER``.
    genes, gene_mean, gene_deviation
        Names of the data's genes, G of them, and mean and standard deviation of their values ``[G]``.

    Raises
    ------
    FIMPError
        If the checkpoint cannot be loaded, or knows none of the genes.
    """
    assert choice.spec.foundation is not None
    model = load_foundation(choice.spec.foundation)
    reader = model.reader(genes, gene_mean, gene_deviation)
    if choice.spec.foundation.weights != "all":
        reader.start_at_mean()
    return reader, _backbone(choice, model, reader)


def read_image_model(choice: ModelChoice) -> tuple[ImageReader, FoundationBackbone]:
    """Load the checkpoint of a choice, for images.

    Raises
    ------
    FIMPError
        If the checkpoint cannot be loaded, or reads no images.
    """
    assert choice.spec.foundation is not None
    model = load_foundation(choice.spec.foundation)
    reader = model.image_reader()
    return reader, _backbone(choice, model, reader)


def read_recording_model(choice: ModelChoice, patches: int, length: int) -> tuple[RecordingReader, FoundationBackbone]:
    """Load the checkpoint of a choice, for brain recordings.

    Parameters
    ----------
    choice
        ``fimp:FOLDER`` or ``fm:FOLDER``.
    patches, length
        Patches of a window, and time points of a patch.

    Raises
    ------
    FIMPError
        If the checkpoint cannot be loaded, reads no recordings, or its patches do not fit.
    """
    assert choice.spec.foundation is not None
    model = load_foundation(choice.spec.foundation)
    reader = model.recording_reader(patches, length)
    return reader, _backbone(choice, model, reader)


def _backbone(
    choice: ModelChoice, model: FoundationModel, reader: CellReader | ImageReader | RecordingReader
) -> FoundationBackbone:
    """The model's layers; what they and the reader may learn is what the choice says."""
    assert choice.spec.foundation is not None
    if choice.hyperparameters.dropout is not None:
        for module in reader.modules():
            if isinstance(module, nn.Dropout):
                module.p = choice.hyperparameters.dropout
    if choice.spec.foundation.train != "full":
        reader.freeze()
    backbone = choice.spec.build(choice.hyperparameters, model)
    assert isinstance(backbone, FoundationBackbone)
    return backbone


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
        self.reader, self.model, self.hops, self.notes = reader, model, model.hops, reader.notes
        self.deviation, self.queries = deviation, queries
        self.head = nn.Embedding.from_pretrained(torch.zeros(genes, model.out_dim), freeze=False) if corrected else None
        self.bias = nn.Parameter(torch.zeros(genes)) if corrected else None

    @property
    def gene_mean(self) -> Tensor:
        """Mean value of each gene in training cells, ``[G]``."""
        return self.reader.gene_mean

    def forward(self, tokens: CellTokens, graph: Subgraph) -> Tensor:
        """Predicted values of the seeds' hidden tokens, ``[seeds, K]``; in training, of as many as are answered."""
        asked = tokens.take(graph.num_seeds).asked()
        if self.training:
            asked = asked.columns(-(-self.queries // graph.num_step_seeds))
        h = self._states(tokens, asked, graph)
        out = self.reader.predict(h, asked.genes)
        if self.head is None or self.bias is None:
            return out
        return out + self.deviation * ((h * self.head(asked.genes)).sum(-1) + self.bias[asked.genes])

    def embed(self, inputs: CellTokens, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``: the mean state over the cell's genes when each is asked for."""
        seeds = inputs.take(graph.num_seeds)
        return mean_tokens(self._states(inputs, seeds, graph), seeds.mask)

    def attention(
        self, inputs: CellTokens, graph: Subgraph, keep: Keep, layer: int | None = None
    ) -> Iterator[EdgeAttention]:
        """Attention of the seeds' hidden genes to visible genes; see :meth:`fimp.tasks.base.Network.attention`."""
        asked = inputs.take(graph.num_seeds).asked()
        visible = inputs.take(graph.num_nodes[self.hops]).visible()
        sources = self.reader.sources(visible)
        assert isinstance(self.model, FoundationBackbone)
        parts = self.model.attention(self.reader.queries(asked), sources, graph, keep, layer)
        senders = _unmasked(visible.genes, sources.mask)
        yield from named(parts, asked.genes.masked_fill(~asked.hidden, -1), senders)

    def _states(self, tokens: CellTokens, asked: CellTokens, graph: Subgraph) -> Tensor:
        visible = tokens.take(graph.num_nodes[self.hops]).visible()
        out: Tensor = self.model(self.reader.queries(asked), self.reader.sources(visible), graph)
        return out


class FoundationClassificationNetwork(Network):
    """Classifies nodes with a foundation model: a linear layer on the mean of the last states of what a node shows.

    With a graph, and where it is asked for, means of what neighbours are by themselves follow: ring by ring, each node
    giving the mean of its neighbours on. A message stream starts from the tokens of the node that asks, so what is the
    node's own stands beside everything it hears, and a class that only many neighbours together tell is in small
    differences. The states of the model by itself are computed for messages anyway, and tell it plainly.

    Parameters
    ----------
    reader
        Nodes in the model's words.
    model
        Its layers, and the graph.
    log_prior
        Log frequency of each class among training nodes ``[C]``, at which scores start.
    rings
        Rings of neighbours whose mean states follow, where there is a graph.
    """

    log_prior: Tensor
    model: FoundationBackbone

    def __init__(
        self, reader: CellReader | ImageReader, model: FoundationBackbone, log_prior: Tensor, rings: int = 0
    ) -> None:
        super().__init__()
        self.reader, self.model, self.notes = reader, model, reader.notes
        self.rings = rings if model.hops else 0
        self.hops = max(model.hops, self.rings)
        self.register_buffer("log_prior", log_prior)
        self.head = nn.Linear((1 + self.rings) * model.out_dim, len(log_prior))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Labelled, graph: Subgraph) -> Tensor:
        """Scores of the seeds' classes before softmax, ``[seeds, C]``."""
        out: Tensor = self.log_prior + self.head(self.embed(inputs, graph))
        return out

    def embed(self, inputs: Labelled, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, (1 + rings) D]``."""
        tokens = self.reader.told(inputs.content.take(graph.num_nodes[self.hops]))
        seeds, near = graph.num_seeds, graph.num_nodes[self.model.hops]
        if self.model.hops:
            states = self.model(tokens.h[:seeds], Tokens(tokens.h[:near], tokens.mask[:near]), graph)
        else:
            states = self.model.plain(tokens)
        out = [mean_tokens(states, tokens.mask[:seeds])]
        if self.rings:
            around = mean_tokens(self.model.plain(tokens), tokens.mask)
            for edges, count in graph.layers():
                heard = scatter(around[edges[0]], edges[1], dim_size=count, reduce="mean")
                # Around a node without neighbours there is nobody but itself.
                lonely = torch.bincount(edges[1], minlength=count) == 0
                around = torch.where(lonely[:, None], around[:count], heard)
                out.append(around[:seeds])
        return torch.cat(out, 1)

    def attention(
        self, inputs: Labelled, graph: Subgraph, keep: Keep, layer: int | None = None
    ) -> Iterator[EdgeAttention]:
        """Attention of what the seeds show to what is told; see :meth:`fimp.tasks.base.Network.attention`."""
        content = inputs.content.take(graph.num_nodes[self.model.hops])
        tokens, seeds = self.reader.told(content), graph.num_seeds
        if isinstance(content, CellTokens):
            names = _unmasked(content.visible().genes, tokens.mask)
        else:
            # Class and register tokens come first; patches fill a square.
            side = math.isqrt(tokens.h.size(1))
            names = torch.arange(side**2, device=tokens.h.device).expand(len(tokens.h), -1)
        parts = self.model.attention(tokens.h[:seeds], tokens, graph, keep, layer)
        yield from named(parts, names[:seeds], names)


class FoundationRecordingNetwork(Network):
    """Predicts hidden patches of brain recordings with a foundation model: a linear layer on the last states.

    Queries are all patches of a region in their order, hidden ones as mask tokens; what a region tells itself and its
    neighbours are its visible ones.

    Parameters
    ----------
    reader
        Windows of regions in the model's words.
    model
        Its layers, and the graph.
    """

    def __init__(self, reader: RecordingReader, model: FoundationBackbone) -> None:
        super().__init__()
        self.reader, self.model, self.hops, self.notes = reader, model, model.hops, reader.notes
        self.head = nn.Linear(model.out_dim, reader.patch)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """Predicted patches of the seeds, ``[seeds, P, L]``."""
        out: Tensor = self.head(self._states(inputs, graph)).view_as(inputs.values[: graph.num_seeds])
        return out

    def embed(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``: the mean state over its patches."""
        return self._states(inputs, graph).mean(1)

    def attention(
        self, inputs: WindowInputs, graph: Subgraph, keep: Keep, layer: int | None = None
    ) -> Iterator[EdgeAttention]:
        """Regions all weigh alike in messages of a foundation model: there is nothing to tell.

        Raises
        ------
        FIMPError
            Always.
        """
        raise FIMPError("attention: messages of a foundation model weigh all regions alike; use a run of fimp-base")

    def _states(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        near = inputs.take(graph.num_nodes[self.hops])
        queries = self.reader.queries(inputs.take(graph.num_seeds))
        states: Tensor = self.model(queries, self.reader.told(near), graph)
        # The first token belongs to no patch.
        return states[:, 1:]


def _unmasked(genes: Tensor, mask: Tensor) -> Tensor:
    """Genes ``[n, S]``, -1 where the model has no token; its ``mask [n, S + k]`` begins with tokens of no gene."""
    return genes.masked_fill(~mask[:, mask.size(1) - genes.size(1) :], -1)
