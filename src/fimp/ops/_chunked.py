"""Edge attention in bounded chunks, with a hand-written backward pass that recomputes.

Edges are grouped by destination: the scores of a node's queries against the tokens of *all* its sources are one
matrix product, the softmax runs over each source's part of it, and the product with the values sums over sources
for free. Queries are therefore gathered once per node and not once per edge, and nothing is scattered in the
forward pass. Neither pass holds more than one chunk of edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Elements of the largest tensor of a chunk. 2**20 floats are 4 MiB, so that a chunk's scores, their gradient
#: and the gathered keys and values stay in a usual last-level cache.
ELEMENTS_PER_CHUNK = 2**20


def edges_per_chunk(heads: int, tokens: int, source_tokens: int, width: int) -> int:
    """Number of edges of which no tensor exceeds :data:`ELEMENTS_PER_CHUNK`, at least one."""
    return max(1, ELEMENTS_PER_CHUNK // max(1, heads * source_tokens * max(tokens, width)))


def weighted_sum(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    src: Tensor,
    dst: Tensor,
    key_mask: Tensor | None,
    weight: Tensor | None,
    scale: float,
    dropout: float,
    chunk: int | None = None,
) -> Tensor:
    """Same result as :func:`fimp.ops._reference.weighted_sum` in O(chunk) extra memory.

    Parameters
    ----------
    query, key, value, src, dst, key_mask, weight, scale, dropout
        As in :func:`fimp.ops.edge_attention`.
    chunk
        Edges per chunk; chosen by shape by default.
    """
    if chunk is None:
        chunk = edges_per_chunk(query.size(1), query.size(2), key.size(2), max(query.size(3), value.size(3)))
    # Heads first: rows (head, node) of one matrix are then gathered by one index, without a transposed copy.
    # Queries are scaled, not scores, of which there are more.
    heads_first = [tensor.transpose(0, 1).contiguous() for tensor in (query * scale, key, value)]
    out: Tensor = _WeightedSum.apply(*heads_first, weight, src, dst, key_mask, dropout, chunk)
    return out.transpose(0, 1)


class _Group(NamedTuple):
    """Destinations of a chunk and their in-edges, padded to the same number n per destination.

    Attributes
    ----------
    dst
        ``[B]``.
    edge
        Which edge, ``[B, n]``; 0 where padded.
    real
        ``[B, n]``, or None if nothing is padded.
    """

    dst: Tensor
    edge: Tensor
    real: Tensor | None


def _groups(dst: Tensor, chunk: int) -> Iterator[_Group]:
    """Split edges into groups of at most ``chunk``; a node with more in-edges comes in several groups."""
    edges = dst.numel()
    if edges == 0:
        return
    order = dst.argsort(stable=True)
    ordered = dst[order]
    position = torch.arange(edges, device=dst.device)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    within = position - position.masked_fill(~fresh, 0).cummax(0).values
    start = ((within % chunk) == 0).nonzero().flatten()
    size = torch.diff(start, append=torch.full_like(start[:1], edges))
    # Destinations of similar degree go together, so that little is padded.
    size, rank = size.sort(descending=True, stable=True)
    start = start[rank]
    sizes, first = size.tolist(), 0
    while first < len(sizes):
        width = sizes[first]
        rows = slice(first, first + max(1, chunk // width))
        place = start[rows, None] + torch.arange(width, device=dst.device)
        real = None
        if sizes[min(rows.stop, len(sizes)) - 1] < width:
            real = torch.arange(width, device=dst.device) < size[rows, None]
            place = place.masked_fill(~real, 0)
        yield _Group(ordered[start[rows]], order[place], real)
        first = rows.stop


class _Chunk:
    """What one group gathers and computes, alike in the forward and the backward pass.

    Shapes: H heads, B destinations, n edges of each, S source tokens, T query tokens.
    """

    def __init__(self, ctx: Any, tensors: tuple[Any, ...], index: int, group: _Group) -> None:
        query, key, value, src, key_mask, weight = tensors
        self.group, self.heads, self.nodes = group, key.size(0), key.size(1)
        self.width = group.edge.size(1)
        self.src = src[group.edge]
        self.dst_rows = _rows(group.dst, self.heads, query.size(1))
        self.src_rows = _rows(self.src.flatten(), self.heads, self.nodes)
        self.query = query.flatten(0, 1).index_select(0, self.dst_rows)
        self.key, self.value = (self._gather(tensor) for tensor in (key, value))
        scores = torch.matmul(self.query, self.key.transpose(1, 2))
        self.probability = self._softmax(scores.view(self.heads, -1, query.size(2), self.width, key.size(2)), key_mask)
        self.weight = self._weight(weight, key_mask)
        self.keep: Tensor | None = None
        if ctx.dropout > 0.0:
            generator = torch.Generator(query.device).manual_seed(ctx.seed + index)
            noise = torch.rand(self.probability.shape, generator=generator, device=query.device)
            self.keep = (noise >= ctx.dropout).to(query.dtype).div_(1.0 - ctx.dropout)

    def _gather(self, tensor: Tensor) -> Tensor:
        """Tokens of all sources of a destination in a row: ``[H * B, n * S, d]``."""
        rows = tensor.flatten(0, 1).index_select(0, self.src_rows)
        return rows.view(self.heads * len(self.group.dst), -1, tensor.size(-1))

    def _softmax(self, scores: Tensor, key_mask: Tensor | None) -> Tensor:
        """Softmax over each source's tokens, in place: ``[H, B, T, n, S]``."""
        if key_mask is not None:
            hidden = ~key_mask[self.src][None, :, None]
            # Finite, so that a source without any real token gives no NaN; its weight is zero.
            scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
        return scores.softmax(-1) if scores.size(-1) else scores

    def _weight(self, weight: Tensor | None, key_mask: Tensor | None) -> Tensor | None:
        """Weight of each message ``[1, B, n, 1, 1]``, zero where none is sent; None if all are one."""
        out = None if weight is None else weight[self.group.edge]
        for sent in (self.group.real, None if key_mask is None else key_mask.any(-1)[self.src]):
            if sent is not None:
                out = sent.to(self.query.dtype) if out is None else out * sent
        return None if out is None else out[None, :, :, None, None]

    def attention(self) -> Tensor:
        """Probabilities after dropout."""
        return self.probability if self.keep is None else self.probability * self.keep

    def weighted(self, tokens: Tensor) -> Tensor:
        """Tokens of sources ``[H * B, n * S, d]`` times the messages' weights.

        There are fewer of these numbers than of scores, which is why weights are applied to them.
        """
        if self.weight is None:
            return tokens
        return (tokens.view(self.heads, -1, self.width, self.probability.size(-1), tokens.size(-1)) * self.weight).view(
            tokens.shape
        )

    def flat(self, tensor: Tensor) -> Tensor:
        """``[H, B, T, n, S]`` as matrices ``[H * B, T, n * S]``."""
        return tensor.reshape(self.query.size(0), self.query.size(1), -1)


def _rows(nodes: Tensor, heads: int, count: int) -> Tensor:
    """Rows (head, node) of a ``[heads * count, ...]`` matrix for every head and the given nodes."""
    return (torch.arange(heads, device=nodes.device)[:, None] * count + nodes[None]).flatten()


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        weight: Tensor | None,
        src: Tensor,
        dst: Tensor,
        key_mask: Tensor | None,
        dropout: float,
        chunk: int,
    ) -> Tensor:
        ctx.dropout, ctx.chunk = dropout, chunk
        # Drawn from torch's global generator, so that torch.manual_seed governs dropout here too.
        ctx.seed = int(torch.randint(2**62, ())) if dropout > 0.0 else 0
        ctx.save_for_backward(query, key, value, src, key_mask, weight, dst)
        out = query.new_zeros(query.shape[:-1] + value.shape[-1:])
        for index, group in enumerate(_groups(dst, chunk)):
            part = _Chunk(ctx, (query, key, value, src, key_mask, weight), index, group)
            message = torch.matmul(part.flat(part.attention()), part.weighted(part.value))
            out.flatten(0, 1).index_add_(0, part.dst_rows, message)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, src, key_mask, weight, dst = ctx.saved_tensors
        grads = [torch.zeros_like(tensor) for tensor in (query, key, value)]
        grad_query, grad_key, grad_value = (grad.flatten(0, 1) for grad in grads)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[3] else None
        grad_out = grad_out.contiguous().flatten(0, 1)
        for index, group in enumerate(_groups(dst, ctx.chunk)):
            part = _Chunk(ctx, (query, key, value, src, key_mask, weight), index, group)
            grad_message = grad_out.index_select(0, part.dst_rows)
            to_value = torch.matmul(part.flat(part.attention()).transpose(1, 2), grad_message)
            grad_value.index_add_(0, part.src_rows, part.weighted(to_value).view(-1, *value.shape[2:]))
            if grad_weight is not None:
                # What a message is worth to its weight: the product of what its values are given and what they are.
                of_edge = (to_value * part.value).view(part.heads, *group.edge.shape, -1).sum((0, 3))
                if group.real is not None:
                    of_edge = of_edge.masked_fill(~group.real, 0.0)
                if key_mask is not None:
                    of_edge = of_edge * key_mask.any(-1)[part.src]
                grad_weight.index_add_(0, group.edge.flatten(), of_edge.flatten())
            grad = torch.matmul(grad_message, part.weighted(part.value).transpose(1, 2)).view_as(part.probability)
            if part.keep is not None:
                grad = grad.mul_(part.keep)
            grad = torch.ops.aten._softmax_backward_data(grad, part.probability, -1, grad.dtype)
            scores = part.flat(grad)
            grad_query.index_add_(0, part.dst_rows, torch.matmul(scores, part.key))
            to_key = torch.matmul(scores.transpose(1, 2), part.query)
            grad_key.index_add_(0, part.src_rows, to_key.view(-1, *key.shape[2:]))
        return (*grads, grad_weight, None, None, None, None, None)
