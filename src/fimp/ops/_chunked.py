"""Edge attention in bounded chunks, with a hand-written backward pass that recomputes.

1. Edges are grouped around the nodes of one side (:mod:`fimp.ops._blocks`). Scores of a source's tokens against the
   queries of *all* its destinations are one matrix product, and what comes back to the source is summed by another;
   or the same with sides exchanged, where nodes hear many but are heard by few.
2. Softmax needs no maximum where the lengths of queries and keys bound the scores, and where it can be, it is divided
   by its sums after the product with the values, which are fewer (:mod:`fimp.ops._part`).
3. Heads of large problems are computed by threads of their own (:mod:`fimp.ops._threads`), each one head at a time.
   They share nothing but what they read: results do not depend on the number of threads.

Neither pass holds more than a chunk of edges per thread, and some copies of what nodes have.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fimp.ops._blocks import Block, blocks
from fimp.ops._part import LOG2E, Part, by_heads, prepare
from fimp.ops._threads import in_parallel

#: Elements of the largest tensor of a chunk. 2**18 floats are 1 MiB: scores, their gradient and the gathered tokens
#: stay in usual caches, and operators still take long compared with calling them.
ELEMENTS_PER_CHUNK = 2**18
#: Multiplications of one product, over all edges and heads, that are worth threads of our own.
_WORTH_THREADS = 2**26


def edges_per_chunk(heads: int, tokens: int, source_tokens: int, width: int) -> int:
    """Number of edges of which no tensor exceeds :data:`ELEMENTS_PER_CHUNK`, at least one."""
    largest = max(tokens * source_tokens, max(tokens, source_tokens) * width)
    return max(1, ELEMENTS_PER_CHUNK // max(1, heads * largest))


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
    multiplications = src.numel() * heads * tokens * source_tokens * width
    together = 1 if query.device.type == "cpu" and multiplications >= _WORTH_THREADS else max(1, heads)
    if chunk is None:
        chunk = edges_per_chunk(together, tokens, source_tokens, width)
    edge_index = torch.stack([src, dst])
    if key_mask is not None or not source_tokens:
        # Sources without a real token send nothing, and there is nothing that their softmax could be.
        sends = torch.zeros_like(src, dtype=torch.bool) if key_mask is None else key_mask.any(-1)[src]
        edge_index, weight = edge_index[:, sends], None if weight is None else weight[sends]
    # Drawn from torch's global generator, so that torch.manual_seed governs dropout here too.
    seed = int(torch.randint(2**61, ())) if dropout > 0.0 else 0
    plan = _Plan(blocks(edge_index, key.size(0), query.size(0), chunk), together, scale, dropout, seed)
    out: Tensor = _WeightedSum.apply(query, key, value, weight, key_mask, plan)
    return out


class _Plan(NamedTuple):
    """What both passes need besides tensors; ``together`` heads are computed at once."""

    groups: list[Block]
    together: int
    scale: float
    dropout: float
    seed: int

    def heads(self, index: int) -> slice:
        return slice(index * self.together, (index + 1) * self.together)

    def keep(self, part: Part, index: int, head: int, heads: int) -> Tensor | None:
        """Dropout of block ``index``, of heads from ``head`` on."""
        return part.keep(self.dropout, self.seed + index * heads, head) if self.dropout > 0.0 else None


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
        ctx.save_for_backward(query, key, value, weight, key_mask)
        ctx.plan = plan
        out = _token_major(value, query.size(0), query.size(2))

        def work(index: int) -> None:
            heads = plan.heads(index)
            inputs = prepare(query[:, heads], key[:, heads], value[:, heads], key_mask, weight, plan.scale)
            total = inputs.query.new_zeros(*inputs.query.shape[:3], value.size(3))
            for number, block in enumerate(plan.groups):
                part = Part(inputs, block)
                _send(part, plan.keep(part, number, heads.start, query.size(1)), total)
            out[:, heads] = total[:, :-1].transpose(0, 1)

        with torch.autocast(query.device.type, enabled=False):
            in_parallel(work, -(-query.size(1) // plan.together))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weight, key_mask = ctx.saved_tensors
        plan: _Plan = ctx.plan
        grads = [_token_major(tensor, tensor.size(0), tensor.size(2)) for tensor in (query, key, value)]
        of_weight = None
        if ctx.needs_input_grad[3]:
            of_weight = query.new_zeros(
                query.size(1), len(weight) + 1, dtype=torch.promote_types(query.dtype, torch.float32)
            )

        def work(index: int) -> None:
            heads = plan.heads(index)
            inputs = prepare(query[:, heads], key[:, heads], value[:, heads], key_mask, weight, plan.scale)
            grad = by_heads(grad_out[:, heads])
            totals = (torch.zeros_like(inputs.query), torch.zeros_like(inputs.key), torch.zeros_like(inputs.value))
            for number, block in enumerate(plan.groups):
                part = Part(inputs, block)
                keep = plan.keep(part, number, heads.start, query.size(1))
                _return(part, keep, grad, totals, None if of_weight is None else of_weight[heads])
            # Queries came scaled, and scores as powers of two.
            for out, total, factor in zip(grads, totals, (plan.scale, 1.0 / LOG2E, 1.0), strict=True):
                torch.mul(total[:, :-1].transpose(0, 1), factor, out=out[:, heads])

        in_parallel(work, -(-query.size(1) // plan.together))
        grad_weight = None if of_weight is None else of_weight[:, :-1].sum(0).to(weight.dtype)
        return (*grads, grad_weight, None, None)


def _token_major(tensor: Tensor, nodes: int, tokens: int) -> Tensor:
    """Room for ``[N, H, T, d]`` in the order of ``[N, T, H d]``, which projections take and give without a copy."""
    return tensor.new_empty(nodes, tokens, tensor.size(1), tensor.size(3)).transpose(1, 2)


def _send(part: Part, keep: Tensor | None, total: Tensor) -> None:
    """Add the messages of a block to ``total``, ``[h, N_dst + 1, T, d_v]``."""
    attention = part.exponential if keep is None else part.exponential.mul_(keep)
    share = part.reciprocal if part.weight is None else part.reciprocal.mul_(part.weight)
    if part.sources > 1:
        attention.mul_(share[:, :, None])
    message = torch.matmul(part.rows_of(attention).transpose(1, 2), part.value)
    if part.sources == 1:
        # Every row of the product is of one source.
        message.mul_(share.transpose(1, 2))
    part.add_to(total, part.query_rows, message)


def _return(
    part: Part, keep: Tensor | None, grad: Tensor, totals: tuple[Tensor, ...], of_weight: Tensor | None
) -> None:
    """Add what a block gives back to queries, keys and values, and set what it gives to the weights of its edges."""
    attention, reciprocal = part.exponential, part.reciprocal
    of_message = part.gather(grad, part.query_rows)
    if part.sources == 1:
        of_message.mul_(reciprocal.transpose(1, 2))
    else:
        attention.mul_(reciprocal[:, :, None])
    scores = torch.matmul(part.value, of_message.transpose(1, 2)).view_as(attention)
    if keep is not None:
        scores.mul_(keep)
    # What a message is worth, by query token; both to the weight of its edge and to the sum in softmax.
    worth = scores.mul_(attention).sum(2)
    if of_weight is not None:
        by_edge = worth.view(part.heads, part.count, part.sources, part.block.dst.size(1), -1).sum(-1)
        of_weight.index_copy_(1, part.block.edge.flatten(), by_edge.flatten(1))
    if part.sources == 1:
        worth.mul_(reciprocal)
    scores.addcmul_(attention, worth[:, :, None], value=-1)
    if keep is not None:
        attention.mul_(keep)
    if part.weight is not None:
        scores.mul_(part.weight[:, :, None])
        attention.mul_(part.weight[:, :, None])
    by_row = part.rows_of(scores)
    part.add_to(totals[0], part.query_rows, torch.matmul(by_row.transpose(1, 2), part.key))
    part.add_to(totals[1], part.key_rows, torch.matmul(by_row, part.query))
    part.add_to(totals[2], part.key_rows, torch.matmul(part.rows_of(attention), of_message))
