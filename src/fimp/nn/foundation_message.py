"""Message creation with the layers of a foundation model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fimp import ops
from fimp.errors import FIMPError
from fimp.nn.transformer import TransformerStack
from fimp.nn.transformer_layer import TransformerLayer, without_masked

#: Numbers that the backward pass of a chunk of edges may hold. On a GPU, small chunks leave most of it idle.
_NUMBERS_PER_CHUNK = {"cpu": 2**26, "cuda": 2**29}
#: Numbers that the backward pass of a stream may hold; of longer ones it computes layers anew.
_NUMBERS_KEPT = {"cpu": 2**27, "cuda": 2**31}


class FoundationMessage(nn.Module):
    r"""Messages made by a pretrained transformer (arXiv 2210.09475, section 3.3).

    Two streams run through its layers. The *source stream* is what the model does anyway: self-attention on the
    tokens of every node, once per node. The *message stream* starts from the tokens of the destination and at every
    layer takes its keys and values from the source stream of the neighbour at that layer:

    .. math::
        S_j^{l+1} = \mathrm{layer}_l(Q = S_j^l, KV = S_j^l), \qquad
        M_{ji}^{l+1} = \mathrm{layer}_l(Q = M_{ji}^l, KV = S_j^l), \qquad S_j^0 = H_j,\; M_{ji}^0 = H_i

    On a graph that has only self-loops the result is the model's own output, ``stack.encode(h, mask)``.

    Parameters
    ----------
    stack
        The model's layers; they are shared, not copied.
    aggregate
        ``"final"``, as in the paper: every edge's message runs through all layers, and the last states are averaged.
        ``"layer"``: what the neighbours' attention gives is averaged at every layer, and the message stream goes
        through the feed-forward networks once per node instead of once per edge.
    layers
        Which layers run, in both streams: ``"-4:"`` are the last four (:meth:`TransformerStack.part`).
    edges_per_chunk
        How many edges are held at once; chosen by shape and device by default. With exact attention it changes
        nothing but memory and time; true Nystrom attention scales its pseudo-inverse by a maximum over what it gets
        at once, upstream as here.
    backend
        Backend of :func:`fimp.ops.edge_attention`, which ``"layer"`` uses with exact attention.

    Raises
    ------
    FIMPError
        If ``aggregate`` is unknown, ``edges_per_chunk`` is below 1 or ``layers`` leaves no layer.
    """

    def __init__(
        self,
        stack: TransformerStack,
        aggregate: Literal["final", "layer"] = "final",
        layers: slice | str | None = None,
        edges_per_chunk: int | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if aggregate not in ("final", "layer"):
            raise FIMPError(f"FoundationMessage: aggregate={aggregate!r} is unknown; use 'final' or 'layer'")
        if edges_per_chunk is not None and edges_per_chunk < 1:
            raise FIMPError(f"FoundationMessage: edges_per_chunk={edges_per_chunk}, wanted at least 1, or None")
        self.stack = stack.part(layers)
        self.aggregate, self.edges_per_chunk, self.backend = aggregate, edges_per_chunk, backend

    def reset_parameters(self) -> None:
        """Draw all weights anew, those of the model that the layers belong to: what was pretrained is lost."""
        self.stack.reset_parameters()

    def forward(
        self,
        h_dst: Tensor,
        h_src: Tensor,
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        edge_weight: Tensor | None = None,
        aggr: str = "mean",
        names: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Make the messages of all edges and aggregate them at their destinations.

        Parameters
        ----------
        h_dst, h_src
            Tokens of destinations ``[N_dst, T, D]`` and sources ``[N_src, S, D]``, as the model's layers take them.
        edge_index
            ``[2, E]``, source in row 0 and destination in row 1.
        mask_src
            ``[N_src, S]``, True = real token. A source without any sends nothing and does not count in the mean.
        edge_weight
            ``[E]`` weights in the aggregation.
        aggr
            ``"mean"``, or ``"sum"``: the mean times the sum of the weights.
        names
            Must be None: a pretrained model has its own way to know what a token is.

        Returns
        -------
        Tensor
            ``[N_dst, T, D]``, exactly zero for a node that receives nothing.

        Raises
        ------
        FIMPError
            If shapes or options do not fit, or as :meth:`TransformerLayer.attend`.
        """
        _refuse(names)
        return self.hear(h_dst, self.tell(h_src, mask_src), edge_index, mask_src, edge_weight, aggr)

    def tell(self, h_src: Tensor, mask_src: Tensor | None = None, names: Tensor | None = None) -> tuple[Tensor, ...]:
        """Keys and values of sources at every layer of the source stream, ``[N_src, H, S, d]`` each.

        Parameters
        ----------
        h_src, mask_src
            Tokens ``[N_src, S, D]`` and their mask ``[N_src, S]``.
        names
            Must be None, as in :meth:`forward`.

        Raises
        ------
        FIMPError
            As :meth:`forward`.
        """
        _refuse(names)
        self.stack.check(h_src, mask_src)
        stream = self._stream(h_src, None if mask_src is None or bool(mask_src.all()) else mask_src)
        return tuple(tensor for pair in stream for tensor in pair)

    def hear(
        self,
        h_dst: Tensor,
        told: tuple[Tensor, ...],
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        edge_weight: Tensor | None = None,
        aggr: str = "mean",
        names: Tensor | None = None,
    ) -> Tensor:
        """Run message streams against keys and values that :meth:`tell` made; otherwise as :meth:`forward`.

        Raises
        ------
        FIMPError
            If shapes or options do not fit.
        """
        _refuse(names)
        if aggr not in ("mean", "sum"):
            raise FIMPError(f"FoundationMessage: aggr={aggr!r} is unknown; use 'mean' or 'sum'")
        streams, total, edge_weight = self.streams(h_dst, told, edge_index, mask_src, edge_weight)
        final = self.aggregate == "final"
        out = self._final(h_dst, streams) if final else self.layer_by_layer(h_dst, streams, edge_weight)
        out = out.masked_fill((total == 0)[:, None, None], 0.0)
        return out if aggr == "mean" else out * total[:, None, None]

    def streams(
        self,
        h_dst: Tensor,
        told: tuple[Tensor, ...],
        edge_index: Tensor,
        mask_src: Tensor | None,
        edge_weight: Tensor | None,
    ) -> tuple[Streams, Tensor, Tensor | None]:
        """What message streams need, the weight that arrives at each destination ``[N_dst]``, and weights of edges.

        Arguments as in :meth:`hear`; edges whose source sends nothing are left out.

        Raises
        ------
        FIMPError
            If shapes do not fit.
        """
        self.stack.check(h_dst, None)
        ops.check_edges("FoundationMessage", edge_index, len(told[0]), len(h_dst), edge_weight)
        if mask_src is not None and bool(mask_src.all()):
            # Images and recordings have all their tokens, and attention is faster without a mask.
            mask_src = None
        if mask_src is not None:
            sends = mask_src.any(1)[edge_index[0]]
            edge_index = edge_index[:, sends]
            edge_weight = edge_weight if edge_weight is None else edge_weight[sends]
        total = ops.message_weight(edge_index, len(h_dst), None, edge_weight, dtype=h_dst.dtype)
        share = ops.safe_reciprocal(total)[edge_index[1]]
        if edge_weight is not None:
            share = share * edge_weight.to(share.dtype)
        masks = [] if mask_src is None else [mask_src]
        stream = list(zip(told[::2], told[1::2], strict=True))
        return Streams(stream, masks, edge_index, share), total, edge_weight

    def _stream(self, x: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Keys and values ``[N, H, S, d]`` of the plain model at every layer."""
        x = without_masked(x, mask)
        found: list[tuple[Tensor, Tensor]] = []
        for layer in self.stack.layers:
            assert isinstance(layer, TransformerLayer)
            key, value, x = self._run(layer.tell, x, mask, len(found) + 1 == len(self.stack.layers))
            found.append((key, value))
        return found

    def plain(self, h: Tensor, mask: Tensor | None = None) -> Tensor:
        """States of nodes by themselves, ``[N, T, D]``: as on a graph of self-loops, at half the cost.

        Parameters
        ----------
        h
            Tokens ``[N, T, D]``, as the model's layers take them.
        mask
            ``[N, T]``, True = real token.

        Raises
        ------
        FIMPError
            If shapes do not fit.
        """
        self.stack.check(h, mask)
        h = without_masked(h, mask)
        for layer in self.stack.layers:
            h = self._run(layer, h, mask)
        return h if mask is None else h.masked_fill(~mask.any(1)[:, None, None], 0.0)

    def _run(self, function: Any, *arguments: Any) -> Any:
        """Call a function; of long streams, what it computes on the way is computed anew in the backward pass."""
        x = next(argument for argument in arguments if isinstance(argument, Tensor))
        config = self.stack.config
        numbers = config.layers * len(x) * x.size(-2) * (8 * config.dim + 3 * config.hidden)
        if not torch.is_grad_enabled() or numbers <= _NUMBERS_KEPT.get(x.device.type, _NUMBERS_KEPT["cpu"]):
            return function(*arguments)
        return checkpoint(function, *arguments, use_reentrant=False)

    def _final(self, h: Tensor, streams: Streams) -> Tensor:
        """Every message through all layers, then the mean."""
        depth = len(self.stack.layers)

        def message(x: Tensor, *rest: Tensor) -> Tensor:
            for position, layer in enumerate(self.stack.layers):
                assert isinstance(layer, TransformerLayer)
                key, value = rest[2 * position : 2 * position + 2]
                x = layer.finish(x, layer.attend(layer.queries(x), key, value, *rest[2 * depth :]))
            return x

        sources = [tensor for pair in streams.keys_values for tensor in pair]
        return self._sum(message, h, [*sources, *streams.masks], streams, h.shape[1:], self.stack)

    def layer_by_layer(
        self, x: Tensor, streams: Streams, edge_weight: Tensor | None, asked: list[Tensor] | None = None
    ) -> Tensor:
        """The mean at every layer, and the rest of the layer once per node: ``[N_dst, T, D]`` to the same.

        Where a list is given, the queries ``[N_dst, H, T, d]`` of every layer are put there.
        """
        for layer, (key, value) in zip(self.stack.layers, streams.keys_values, strict=True):
            assert isinstance(layer, TransformerLayer)
            x = layer.hear(
                x, partial(self._context, layer, x.detach(), key, value, streams, edge_weight, asked), self._run
            )
        return x

    def _context(
        self,
        layer: TransformerLayer,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        streams: Streams,
        edge_weight: Tensor | None,
        asked: list[Tensor] | None,
        query: Tensor,
    ) -> Tensor:
        """What destinations in states ``x`` hear at a layer, ``[N_dst, T, D]``."""
        if asked is not None:
            asked.append(query)
        if self.stack.config.landmarks is not None:
            return self._sum(layer.attend, query, [key, value, *streams.masks], streams, x.shape[1:], layer.value_conv)
        context = ops.edge_attention(
            query,
            key,
            value,
            streams.edge_index,
            key_mask=streams.masks[0] if streams.masks else None,
            edge_weight=edge_weight,
            dropout=layer.config.dropout if layer.training else 0.0,
            backend=self.backend,
        )
        context = context.transpose(1, 2).flatten(2)
        if layer.value_conv is None:
            return context
        convolved = layer.convolve(value, x.size(1)).transpose(1, 2).flatten(2)
        return context + self._sum(_second, x, [convolved], streams, x.shape[1:], None)

    def _sum(
        self,
        message: Callable[..., Tensor],
        destination: Tensor,
        sources: list[Tensor],
        streams: Streams,
        shape: torch.Size,
        module: nn.Module | None,
    ) -> Tensor:
        """Mean over in-edges of the messages that ``message``, with the weights of ``module``, makes."""
        return ops.edge_sum(
            message,
            destination,
            sources,
            streams.edge_index,
            streams.share,
            shape,
            chunk=self.fitting_chunk(destination, sources[0].size(-2)),
            parameters=[] if module is None else list(module.parameters()),
            # The layers are the model's own, and drop as they are told there.
            random=self.stack.config.dropout > 0.0 and any(layer.training for layer in self.stack.layers),
        )

    def fitting_chunk(self, destination: Tensor, source_tokens: int) -> int:
        """Edges held at once: by what a message holds in the backward pass, states, keys, values and scores."""
        if self.edges_per_chunk is not None:
            return self.edges_per_chunk
        config, tokens = self.stack.config, destination.size(-2)
        per_layer = 2 * source_tokens * config.dim + tokens * (8 * config.dim + 3 * config.hidden)
        per_layer += 2 * config.heads * tokens * source_tokens
        budget = _NUMBERS_PER_CHUNK.get(destination.device.type, _NUMBERS_PER_CHUNK["cpu"])
        return max(1, budget // max(1, config.layers * per_layer))

    def extra_repr(self) -> str:
        """Aggregation for ``repr``."""
        return f"aggregate={self.aggregate!r}"


class Streams(NamedTuple):
    """What message streams need of sources and edges.

    Attributes
    ----------
    keys_values
        Keys and values ``[N_src, H, S, d]`` of every layer.
    masks
        The mask ``[N_src, S]``, or nothing.
    edge_index
        ``[2, E]``, of edges whose sources send something.
    share
        ``[E]``, the weight of each message in the mean.
    """

    keys_values: list[tuple[Tensor, Tensor]]
    masks: list[Tensor]
    edge_index: Tensor
    share: Tensor


def _refuse(names: object) -> None:
    if names is not None:
        raise FIMPError("FoundationMessage: got names of tokens, which a pretrained model cannot use; pass None")


def _second(_: Tensor, second: Tensor) -> Tensor:
    """A message that is the source's own tensor."""
    return second
