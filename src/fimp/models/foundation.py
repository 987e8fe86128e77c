"""Foundation models in a comparison: ``fimp:FOLDER`` makes messages with one, ``fm:FOLDER`` is the model without a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.foundation import FoundationModel, load
from fimp.models.registry import Backbone
from fimp.nn.fimp_conv import FIMPConv
from fimp.tokenizers.base import Tokens

#: Prefixes of a model's name that say what the folder after them is used for.
KINDS = {
    "fimp": "messages made by the foundation model in the folder",
    "fm": "the foundation model in the folder, without the graph",
}
#: Which weights of the folder are used; the others are drawn anew.
WEIGHTS = ("all", "none", "genes", "layers")


@dataclass(frozen=True)
class FoundationChoice:
    """A foundation model on the command line: ``fimp:FOLDER[,option=value]``.

    Attributes
    ----------
    folder
        The checkpoint.
    graph
        Whether neighbours send messages (``fimp:``), or nodes are on their own (``fm:``).
    aggregate
        ``layer`` or ``final``, as in :class:`fimp.nn.FoundationMessage`.
    layers
        Which layers are used: ``-4:``, for instance; all by default.
    train
        ``full``, ``frozen`` (only what the task adds is trained) or ``last-K`` (the last K layers, too).
    weights
        ``all``; or, to see what matters, ``none``, or those of the ``genes`` (their embeddings) or of the ``layers`` alone.
    """

    folder: str
    graph: bool
    aggregate: str = "layer"
    layers: str | None = None
    train: str = "full"
    weights: str = "all"

    def __post_init__(self) -> None:
        if self.aggregate not in ("layer", "final"):
            raise FIMPError(f"--models: aggregate={self.aggregate!r} is unknown; use layer or final")
        if self.weights not in WEIGHTS:
            raise FIMPError(f"--models: weights={self.weights!r} is unknown; use {', '.join(WEIGHTS)}")
        if self.train not in ("full", "frozen") and self.last_layers is None:
            raise FIMPError(f"--models: train={self.train!r} is unknown; use full, frozen or last-2, for instance")

    @property
    def last_layers(self) -> int | None:
        """K of ``last-K``."""
        head, _, count = self.train.partition("last-")
        return int(count) if not head and count.isdigit() and int(count) > 0 else None


def parse(name: str) -> FoundationChoice | None:
    """Understand ``fimp:FOLDER[,option=value]`` and ``fm:FOLDER[,option=value]``; None for any other name.

    Raises
    ------
    FIMPError
        If the folder is empty, or an option is unknown or given twice.
    """
    kind, colon, rest = name.partition(":")
    if not colon or kind not in KINDS:
        return None
    folder, *parts = rest.split(",")
    if not folder.strip():
        raise FIMPError(f"--models: {name!r} names no folder; write {kind}:FOLDER")
    known = tuple(field for field in FoundationChoice.__dataclass_fields__ if field not in ("folder", "graph"))
    options: dict[str, Any] = {}
    for part in parts:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in known or not value:
            raise FIMPError(f"--models: {part.strip()!r} of {name!r} is no option; known are {', '.join(known)}")
        if key in options:
            raise FIMPError(f"--models: {key} is given twice in {name!r}; give it once")
        options[key] = value
    return FoundationChoice(folder.strip(), kind == "fimp", **options)


class FoundationBackbone(Backbone):
    """One message passing layer whose messages a foundation model makes: ``H_i <- A_i`` (arXiv 2210.09475, section 3.3).

    The message stream of a seed starts from what is asked of it; the sources are what nodes show. A node is a neighbour
    of itself, too, and counts as much as all others together: what a cell says of itself is worth more than what
    one of eight neighbours says.

    Parameters
    ----------
    choice
        How the model is used.
    model
        The model; its layers are shared, not copied.
    """

    def __init__(self, choice: FoundationChoice, model: FoundationModel) -> None:
        super().__init__()
        self.out_dim = model.stack.config.dim
        self.hops = self.reach = int(choice.graph)
        self.conv = FIMPConv(model.message(aggregate=choice.aggregate, layers=choice.layers))
        self.norm = model.final_norm
        if choice.train != "full":
            model.requires_grad_(False)
        if choice.last_layers is not None:
            for layer in list(self.conv.message.stack.layers)[-choice.last_layers :]:
                layer.requires_grad_(True)

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
        loops = torch.arange(graph.num_seeds, device=queries.device).expand(2, -1)
        edges, weight = loops, None
        if self.hops:
            near = graph.edge_index[:, : graph.num_edges[0]]
            edges = torch.cat([loops, near], 1)
            degree = torch.bincount(near[1], minlength=graph.num_seeds).clamp(min=1)
            weight = torch.cat([degree, torch.ones_like(near[0])]).to(queries.dtype)
        out: Tensor = self.norm(self.conv((sources.h, queries), edges, (sources.mask, None), weight))
        return out


def load_foundation(choice: FoundationChoice) -> FoundationModel:
    """Load the model, and draw anew what is not to be used of it."""
    model = load(choice.folder)
    if choice.weights != "all":
        model.reset(keep=choice.weights)
    return model
