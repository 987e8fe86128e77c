"""Foundation models in a comparison: ``fimp:FOLDER`` sends messages with one, ``fm:FOLDER`` is one without a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.foundation import FoundationModel, load
from fimp.foundation.vocabulary import read_mapping
from fimp.models.checkpoints import FoundationChoice
from fimp.models.registry import Backbone, Hyperparameters
from fimp.nn.fimp_conv import FIMPConv
from fimp.nn.foundation_attention import message_attention
from fimp.nn.foundation_message import FoundationMessage
from fimp.nn.transformer import TransformerStack
from fimp.nn.transformer_layer import TransformerLayer
from fimp.tokenizers.base import Tokens


class FoundationBackbone(Backbone):
    """One message passing layer whose messages a foundation model makes: ``H_i <- A_i`` (arXiv 2210.09475, 3.3).

    The message stream of a seed starts from what is asked of it; the sources are what nodes show. A node is a neighbour
    of itself, too, and counts as much as all others together: what a cell says of itself is worth more than what
    one of eight neighbours says.

    Parameters
    ----------
    choice
        How the model is used; what is frozen is frozen in the model.
    h
        A dropout given there takes the place of the checkpoint's own.
    model
        The model; its layers are shared, not copied.
    """

    def __init__(self, choice: FoundationChoice, h: Hyperparameters, model: FoundationModel) -> None:
        super().__init__()
        self.out_dim = model.stack.config.dim
        self.hops = self.reach = int(choice.graph)
        message: FoundationMessage = model.message(aggregate=choice.aggregate, layers=choice.layers)
        self.conv, self.norm = FIMPConv(message), model.final_norm
        prepare(model, message.stack, choice, h)

    def forward(self, queries: Tensor, sources: Tokens, graph: Subgraph) -> Tensor:
        """States of the seeds' queries.

        Parameters
        ----------
        queries
            Tokens asked of the seeds, ``[seeds, T, D]``.
        sources
            What the seeds, and with a graph the nodes within one hop, show: ``h [n, S, D]``, ``mask [n, S]``.
        graph
            Subgraph with one hop, or none.

        Returns
        -------
        Tensor
            ``[seeds, T, D]``, after the model's final norm.
        """
        edges, weight = self._edges(queries, graph)
        out: Tensor = self.norm(self.conv((sources.h, queries), edges, (sources.mask, None), weight))
        return out

    def attention(
        self,
        queries: Tensor,
        sources: Tokens,
        graph: Subgraph,
        keep: Callable[[Tensor], Tensor],
        layer: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Attention of the message stream along some edges (:func:`fimp.nn.foundation_attention.message_attention`).

        Parameters
        ----------
        queries, sources, graph
            As in :meth:`forward`.
        keep
            Says of edges ``[2, e]``, self-loops among them, which are wanted ``[e]``.
        layer
            Which layer; the mean over all by default.
        """
        message = self.conv.message
        assert isinstance(message, FoundationMessage)
        mask = None if bool(sources.mask.all()) else sources.mask
        edges, weight = self._edges(queries, graph)
        yield from message_attention(message, queries, sources.h, edges, mask, weight, keep(edges), layer)

    def _edges(self, queries: Tensor, graph: Subgraph) -> tuple[Tensor, Tensor | None]:
        """Edges with self-loops of the seeds, and their weights."""
        loops = torch.arange(graph.num_seeds, device=queries.device).expand(2, -1)
        if not self.hops:
            return loops, None
        near = graph.edge_index[:, : graph.num_edges[0]]
        degree = torch.bincount(near[1], minlength=graph.num_seeds).clamp(min=1)
        return torch.cat([loops, near], 1), torch.cat([degree, torch.ones_like(near[0])]).to(queries.dtype)

    def plain(self, tokens: Tokens) -> Tensor:
        """States of nodes by themselves ``[n, T, D]``, after the final norm: :meth:`forward` of what they show."""
        message = self.conv.message
        assert isinstance(message, FoundationMessage)
        out: Tensor = self.norm(message.plain(tokens.h, None if bool(tokens.mask.all()) else tokens.mask))
        return out


def prepare(model: FoundationModel, stack: TransformerStack, choice: FoundationChoice, h: Hyperparameters) -> None:
    """Freeze what is not to be trained, and give layers the dropout that was asked for.

    Parameters
    ----------
    model
        The model.
    stack
        Those of its layers that are used.
    choice, h
        How.
    """
    layers = [layer for layer in stack.layers if isinstance(layer, TransformerLayer)]
    if h.dropout is not None:
        stack.config = replace(stack.config, dropout=h.dropout)
        for layer in layers:
            layer.config = replace(layer.config, dropout=h.dropout)
    if choice.train != "full":
        model.requires_grad_(False)
        for layer in layers[max(0, len(layers) - choice.last_layers) :]:
            layer.requires_grad_(True)
    if choice.lora_rank:
        _add_low_rank(stack, choice.lora_rank)


def _add_low_rank(stack: nn.Module, rank: int) -> None:
    """Put low-rank changes beside the linear maps of a stack; they start at zero, and alone are trained."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise FIMPError(f"--models: train=lora-{rank} needs the package peft; run 'pip install peft'") from error
    maps = ["q_proj", "k_proj", "v_proj", "out_proj", "linear1", "linear2"]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=maps), stack)


def load_foundation(choice: FoundationChoice) -> FoundationModel:
    """Load the model, and draw anew the weights that are not to be used.

    Raises
    ------
    FIMPError
        If the folder is no checkpoint, or genes are asked for of a model that knows none.
    """
    model = load_mapped(choice.folder, choice.mapping)
    if choice.weights != "all":
        _draw_anew(model, choice)
    return model


def load_mapped(folder: str, mapping: str | None) -> FoundationModel:
    """Load a model, and the file that renames genes of the data for it.

    Raises
    ------
    FIMPError
        If the folder is no checkpoint; or if the file cannot be read, or goes with a model that knows no genes.
    """
    model = load(folder)
    if mapping is not None:
        if model.gene_table is None:
            raise FIMPError(
                f"mapping={mapping}: {folder} is a {model.family} model, which knows no genes; leave it out"
            )
        model.gene_mapping = read_mapping(mapping)
    return model


@torch.no_grad()
def _draw_anew(model: FoundationModel, choice: FoundationChoice) -> None:
    kept: set[int] = set()
    if choice.weights == "layers":
        kept = {id(parameter) for parameter in model.stack.parameters()}
    elif choice.weights == "genes":
        if model.gene_table is None:
            raise FIMPError(
                f"--models: weights=genes, but {choice.folder} has no embeddings of genes; use layers or all"
            )
        kept = {id(model.gene_table)}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in kept:
                continue
            # What has no recipe of its own: class tokens, positions, layer scales.
            nn.init.trunc_normal_(parameter, std=0.02)
        reset = getattr(module, "reset_parameters", None)
        if callable(reset) and not any(id(parameter) in kept for parameter in module.parameters()):
            reset()
