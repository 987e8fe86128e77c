"""What messages of a foundation model attend to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fimp import ops
from fimp.errors import FIMPError
from fimp.nn.foundation_message import FoundationMessage, Streams
from fimp.nn.transformer_layer import TransformerLayer


@torch.no_grad()
def message_attention(
    message: FoundationMessage,
    h_dst: Tensor,
    h_src: Tensor,
    edge_index: Tensor,
    mask_src: Tensor | None = None,
    edge_weight: Tensor | None = None,
    wanted: Tensor | None = None,
    layer: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Attention of the message stream to the tokens of the sources, mean over heads, in chunks of edges.

    With ``aggregate="final"`` every edge has a message stream of its own; with ``"layer"`` a node has one, which has
    heard all its neighbours in the layers before.

    Parameters
    ----------
    message
        Makes the messages.
    h_dst, h_src, edge_index, mask_src, edge_weight
        As in :meth:`FoundationMessage.forward`; sources without a real token are left out.
    wanted
        Edges whose attention is wanted ``[E]``; all by default.
    layer
        Which layer, counted from 0, or from the last with a minus; the mean over all layers by default.

    Yields
    ------
    tuple
        Edges ``[2, e]`` and attention ``[e, T, S]``; rows sum to one.

    Raises
    ------
    FIMPError
        If attention is not exact, or there is no such layer.
    """
    depth = len(message.stack.layers)
    if message.stack.config.landmarks is not None:
        raise FIMPError("attention: Nystrom attention has no weights between tokens; use a model of exact attention")
    if layer is not None and not -depth <= layer < depth:
        raise FIMPError(f"attention: layer {layer} is unknown; the model uses {depth} layers, 0 to {depth - 1}")
    layers = list(range(depth)) if layer is None else [layer % depth]
    chosen = edge_index if wanted is None else edge_index[:, wanted]
    if mask_src is not None:
        chosen = chosen[:, mask_src.any(1)[chosen[0]]]
    told = message.tell(h_src, mask_src)
    streams, _, edge_weight = message.streams(h_dst, told, edge_index, mask_src, edge_weight)
    asked: list[Tensor] = []
    if message.aggregate == "layer":
        message.layer_by_layer(h_dst, streams, edge_weight, asked)
    chunk = message.fitting_chunk(h_dst, h_src.size(1))
    for start in range(0, chosen.size(1), chunk):
        edges = chosen[:, start : start + chunk]
        place = torch.arange(edges.size(1), device=edges.device)
        total = torch.zeros((), dtype=h_dst.dtype, device=h_dst.device)
        queries = (query[edges[1]] for query in asked) if asked else _queries(message, h_dst, streams, edges)
        for position, query in zip(range(max(layers) + 1), queries, strict=False):
            if position in layers:
                key = streams.keys_values[position][0]
                mask = streams.masks[0] if streams.masks else None
                pairs = torch.stack([edges[0], place])
                total = total + ops.edge_attention_weights(query, key, pairs, key_mask=mask).mean(1)
        yield edges, total / len(layers)


def _queries(message: FoundationMessage, h_dst: Tensor, streams: Streams, edges: Tensor) -> Iterator[Tensor]:
    """Queries ``[e, H, T, d]`` of the message stream of every edge, layer by layer."""
    x = h_dst[edges[1]]
    mask = streams.masks[0][edges[0]] if streams.masks else None
    for layer, (key, value) in zip(message.stack.layers, streams.keys_values, strict=True):
        assert isinstance(layer, TransformerLayer)
        query = layer.queries(x)
        yield query
        x = layer.finish(x, layer.attend(query, key[edges[0]], value[edges[0]], mask))
