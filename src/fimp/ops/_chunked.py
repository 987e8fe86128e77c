"""Edge attention in bounded chunks of edges, with a hand-written backward pass that recomputes.

Edges are visited in destination order, so that one chunk touches few destinations and the
accumulation stays in cache. Neither pass ever holds more than one chunk of scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fimp.ops._reference import attention_probabilities

#: Scores held at once, in elements. 2**20 floats are 4 MiB: the scores, their gradient and the
#: gathered tokens of a chunk then stay in a usual last-level cache.
SCORES_PER_CHUNK = 2**20


def edges_per_chunk(heads: int, tokens: int, source_tokens: int) -> int:
    """Number of edges whose scores fit :data:`SCORES_PER_CHUNK`, at least one."""
    return max(1, SCORES_PER_CHUNK // max(1, heads * tokens * source_tokens))


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
    """Same result as :func:`fimp.ops._reference.weighted_sum` in O(chunk H T S) extra memory."""
    order = dst.argsort(stable=True)
    if chunk is None:
        chunk = edges_per_chunk(query.size(1), query.size(2), key.size(2))
    out: Tensor = _WeightedSum.apply(
        query,
        key,
        value,
        None if weight is None else weight[order],
        src[order],
        dst[order],
        key_mask,
        scale,
        dropout,
        chunk,
    )
    return out


class _Chunk:
    """What one chunk of edges gathers: computed alike in the forward and the backward pass."""

    def __init__(self, ctx: Any, tensors: tuple[Any, ...], index: int, edges: slice) -> None:
        query, key, value, src, dst, key_mask, weight = tensors
        self.src, self.dst = src[edges], dst[edges]
        self.query = query.index_select(0, self.dst)
        self.key = key.index_select(0, self.src)
        self.value = value.index_select(0, self.src)
        self.weight = None if weight is None else weight[edges][:, None, None, None]
        self.mask = None if key_mask is None else key_mask.index_select(0, self.src)
        self.probability = attention_probabilities(self.query, self.key, self.mask, ctx.scale)
        self.keep: Tensor | None = None
        if ctx.dropout > 0.0:
            generator = torch.Generator(query.device).manual_seed(ctx.seed + index)
            noise = torch.rand(self.probability.shape, generator=generator, device=query.device, dtype=torch.float32)
            self.keep = (noise >= ctx.dropout).to(query.dtype) / (1.0 - ctx.dropout)

    @property
    def attention(self) -> Tensor:
        """Probabilities after dropout, [edges, H, T, S]."""
        return self.probability if self.keep is None else self.probability * self.keep


def _chunks(ctx: Any, tensors: tuple[Any, ...]) -> Iterator[tuple[slice, _Chunk]]:
    edges = tensors[3].numel()
    for index, start in enumerate(range(0, edges, ctx.chunk)):
        window = slice(start, min(start + ctx.chunk, edges))
        yield window, _Chunk(ctx, tensors, index, window)


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
        scale: float,
        dropout: float,
        chunk: int,
    ) -> Tensor:
        ctx.scale, ctx.dropout, ctx.chunk = scale, dropout, chunk
        # Drawn from torch's global generator, so that torch.manual_seed governs dropout here too.
        ctx.seed = int(torch.randint(2**62, ())) if dropout > 0.0 else 0
        ctx.save_for_backward(query, key, value, src, dst, key_mask, weight)
        out = query.new_zeros(query.shape[:-1] + value.shape[-1:])
        for _, part in _chunks(ctx, (query, key, value, src, dst, key_mask, weight)):
            message = torch.matmul(part.attention, part.value)
            if part.weight is not None:
                message = message * part.weight
            out.index_add_(0, part.dst, message)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *_, weight = ctx.saved_tensors
        grad_query, grad_key, grad_value = map(torch.zeros_like, (query, key, value))
        grad_weight = None if weight is None else torch.zeros_like(weight)
        for window, part in _chunks(ctx, ctx.saved_tensors):
            grad_message = grad_out.index_select(0, part.dst)
            if grad_weight is not None and part.weight is not None:
                message = torch.matmul(part.attention, part.value)
                grad_weight[window] = (grad_message * message).sum((1, 2, 3))
                grad_message = grad_message * part.weight
            grad_value.index_add_(0, part.src, torch.matmul(part.attention.transpose(-1, -2), grad_message))
            grad_attention = torch.matmul(grad_message, part.value.transpose(-1, -2))
            if part.keep is not None:
                grad_attention = grad_attention * part.keep
            # Softmax backward: P * (dP - sum(dP * P)).
            weighted = grad_attention.mul_(part.probability)
            grad_scores = weighted.sub_(part.probability * weighted.sum(-1, keepdim=True)).mul_(ctx.scale)
            grad_query.index_add_(0, part.dst, torch.matmul(grad_scores, part.key))
            grad_key.index_add_(0, part.src, torch.matmul(grad_scores.transpose(-1, -2), part.query))
        return grad_query, grad_key, grad_value, grad_weight, None, None, None, None, None, None
