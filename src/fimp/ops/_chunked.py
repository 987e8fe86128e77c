"""Edge attention in bounded chunks, with a hand-written backward pass that recomputes.

1. Edges are grouped around the nodes of one side (:mod:`fimp.ops._blocks`). Scores of a source's tokens against the
   queries of *all* its destinations are one matrix product, and what comes back to the source is summed by another;
   or the same with sides exchanged, where nodes hear many but are heard by few.
2. Softmax needs no maximum where the lengths of queries and keys bound the scores, and where it can be, it is divided
   by its sums after the product with the values, which are fewer (:mod:`fimp.ops._part`).
3. Where nodes have many tokens, heads are computed by threads of their own (:mod:`fimp.ops._threads`), each one head at
   a time, which share nothing but what they read. Where they have few, all heads are computed at once, since calling
   operators would take longer than what they do. Neither depends on the number of threads, and so no result does.

Neither pass holds more than a chunk of edges per thread, and some copies of what nodes have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fimp.ops._blocks import Block, blocks
from fimp.ops._nodes import ByHead, Middle, Nodes, Room
from fimp.ops._part import LOG2E, Inputs, Part, bounded
from fimp.ops._threads import in_parallel

#: Elements of the largest tensor of a chunk of one head, and of all heads. 2**18 floats are 1 MiB: scores, their
#: gradient and the gathered tokens stay in usual caches, and operators still take long compared with calling them.
ELEMENTS_PER_CHUNK = (2**18, 3 * 2**17)
#: Multiplications of one product, for an edge and head, and over all of them, that are worth threads of our own.
_WORTH_THREADS = (2**16, 2**26)


def edges_per_chunk(heads: int, tokens: int, source_tokens: int, width: int) -> int:
    """Number of edges of which no tensor exceeds :data:`ELEMENTS_PER_CHUNK`, at least one."""
    largest = max(tokens * source_tokens, max(tokens, source_tokens) * width)
    return max(1, ELEMENTS_PER_CHUNK[heads > 1] // max(1, heads * largest))


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
    heads, tokens, source_tokens = query.size(1), query.size(2), key.size(2)
    width = max(query.size(3), value.size(3))
    multiplications = tokens * source_tokens * width, src.numel() * heads * tokens * source_tokens * width
    worth = all(count >= least for count, least in zip(multiplications, _WORTH_THREADS, strict=True))
    together = 1 if query.device.type == "cpu" and worth else max(1, heads)
    if chunk is None:
        chunk = edges_per_chunk(together, tokens, source_tokens, width)
    edge_index = torch.stack([src, dst])
    if key_mask is not None or not source_tokens:
        # Sources without a real token send nothing, and there is nothing that their softmax could be.
        sends = torch.zeros_like(src, dtype=torch.bool) if key_mask is None else key_mask.any(-1)[src]
        edge_index, weight = edge_index[:, sends], None if weight is None else weight[sends]
    # Drawn from torch's global generator, so that torch.manual_seed governs dropout here too.
    seed = int(torch.randint(2**61, ())) if dropout > 0.0 else 0
    by_source, groups = blocks(edge_index, key.size(0), query.size(0), chunk)
    plan = _Plan(by_source, groups, together, scale, dropout, seed, bounded(query, key, scale))
    out: Tensor = _WeightedSum.apply(query, key, value, weight, key_mask, plan)
    return out


class _Plan(NamedTuple):
    """What both passes need besides tensors; ``together`` heads are computed at once."""

    by_source: bool
    groups: list[Block]
    together: int
    scale: float
    dropout: float
    seed: int
    bounded: bool

    @property
    def sides(self) -> tuple[type[Middle | ByHead], type[Middle | ByHead]]:
        """How destinations and sources are read."""
        return (ByHead, Middle) if self.by_source else (Middle, ByHead)

    def parts(self, inputs: Inputs, heads: slice, of: int) -> Iterator[tuple[Part, Tensor | None]]:
        """All blocks, and what dropout multiplies attention with, for some of ``of`` heads."""
        room, some = Room(), inputs.of(heads)
        count = min(heads.stop, of) - heads.start
        for index, block in enumerate(self.groups):
            part = Part(some, block, count, room)
            yield part, part.keep(self.dropout, self.seed + index * of + heads.start) if self.dropout > 0.0 else None

    def run(self, work: Callable[[slice], None], heads: int) -> None:
        """Call ``work`` for all heads."""
        slices = [slice(first, first + self.together) for first in range(0, heads, self.together)]
        in_parallel(lambda index: work(slices[index]), len(slices))


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        weight: Tensor | None,
        key_mask: Tensor | None,
        plan: _Plan,
    ) -> Tensor:
        to, of = plan.sides
        hidden = None if key_mask is None else torch.cat([~key_mask, torch.zeros_like(key_mask[:1])])
        with torch.autocast(query.device.type, enabled=False):
            first = to.reading(query, plan.scale * LOG2E)
            padded = None if weight is None else F.pad(weight.to(first.held.dtype), (0, 1))
            inputs = Inputs(first, of.reading(key), of.reading(value), hidden, padded, plan.bounded)
            total = ByHead.adding((*query.shape[:3], value.size(3)), inputs.query.held)

            def work(heads: slice) -> None:
                for part, keep in plan.parts(inputs, heads, query.size(1)):
                    _send(part, keep, total.of(heads))

            plan.run(work, query.size(1))
        ctx.save_for_backward(*(nodes.held for nodes in inputs[:3]), hidden, padded)
        ctx.plan, ctx.shapes = plan, [tensor.shape for tensor in (query, key, value)]
        ctx.kinds = [None if tensor is None else tensor.dtype for tensor in (query, key, value, weight)]
        return _by_nodes(total.result(1.0), value.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        *held, hidden, weight = ctx.saved_tensors
        to, of = plan.sides
        inputs = Inputs(to(held[0]), of(held[1]), of(held[2]), hidden, weight, plan.bounded)
        count = grad_out.size(1)
        totals = [ByHead.adding(shape, held[0]) for shape in ctx.shapes]
        of_weight = None if weight is None else held[0].new_zeros(count, len(weight))

        def work(heads: slice) -> None:
            grad = to.reading(grad_out[:, heads])
            some = [total.of(heads) for total in totals]
            for part, keep in plan.parts(inputs, heads, count):
                _give_back(part, keep, grad, some, None if of_weight is None else of_weight[heads])

        plan.run(work, count)
        # Queries came scaled, and scores are powers of two.
        factors = (plan.scale, 1.0 / LOG2E, 1.0)
        grads: list[Tensor | None] = [total.result(by) for total, by in zip(totals, factors, strict=True)]
        grads.append(None if of_weight is None else of_weight[:, :-1].sum(0))
        found = (None if grad is None else grad.to(kind) for grad, kind in zip(grads, ctx.kinds, strict=True))
        return (*found, None, None)


def _by_nodes(tensor: Tensor, kind: torch.dtype) -> Tensor:
    """``[N, H, T, d]`` in the order of projections, ``[N, T, H d]``."""
    return tensor.transpose(1, 2).to(kind).contiguous().transpose(1, 2)


def _send(part: Part, keep: Tensor | None, total: ByHead) -> None:
    """Add the messages of a block to the total of destinations."""
    attention = part.exponential if keep is None else part.exponential.mul_(keep)
    share = part.reciprocal if part.weight is None else part.reciprocal.mul_(part.weight)
    if part.sources > 1:
        attention.mul_(share[:, :, None])
    message = part.product(attention.flatten(1, 2).transpose(1, 2), part.value, "given")
    if part.sources == 1:
        # Every row of the product is of one source.
        message.mul_(share.transpose(1, 2))
    total.give(part.block.dst, message)


def _give_back(
    part: Part, keep: Tensor | None, grad: Nodes, totals: Sequence[ByHead], of_weight: Tensor | None
) -> None:
    """Add what a block gives back to queries, keys and values, and set what it gives to the weights of its edges."""
    attention, reciprocal = part.exponential, part.reciprocal
    of_message = grad.take(part.block.dst, part.room, "of_message")
    if part.sources == 1:
        of_message.mul_(reciprocal.transpose(1, 2))
    else:
        attention.mul_(reciprocal[:, :, None])
    scores = part.product(part.value, of_message.transpose(1, 2), "of_scores").view_as(attention)
    if keep is not None:
        scores.mul_(keep)
    # What a message is worth, by query token; both to the weight of its edge and to the sum in softmax.
    worth = scores.mul_(attention).sum(2)
    if of_weight is not None:
        by_edge = worth.view(part.heads, part.block.edge.numel(), -1).sum(-1)
        of_weight.index_copy_(1, part.block.edge.flatten(), by_edge)
    if part.sources == 1:
        worth.mul_(reciprocal)
    scores.addcmul_(attention, worth[:, :, None], value=-1)
    for factor in (keep, None if part.weight is None else part.weight[:, :, None]):
        if factor is not None:
            attention.mul_(factor)
    if part.weight is not None:
        scores.mul_(part.weight[:, :, None])
    of_scores, attention = scores.flatten(1, 2), attention.flatten(1, 2)
    of_query, of_key, of_value = totals
    of_value.give(part.block.src, part.product(attention, of_message, "given"))
    of_key.give(part.block.src, part.product(of_scores, part.query, "given"))
    # In the memory of what is not needed any more.
    of_query.give(part.block.dst, part.product(of_scores.transpose(1, 2), part.key, "of_message"))
