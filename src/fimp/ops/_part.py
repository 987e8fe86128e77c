"""What one block of edges gathers and computes, alike in the forward and the backward pass of edge attention."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fimp.ops._blocks import Block

#: Scores, in powers of two, of which no maximum need be subtracted: nothing made of them leaves the range of a float.
_SAFE = 60.0
LOG2E = math.log2(math.e)


class Inputs(NamedTuple):
    """Tokens of some heads, with one more, empty, node at the end that padding points at.

    Attributes
    ----------
    query
        ``[h, N_dst + 1, T, d]``, so scaled that scores are powers of two.
    key, value
        ``[h, N_src + 1, S, d]`` and ``[h, N_src + 1, S, d_v]``.
    hidden
        ``[N_src + 1, S]``, True = no real token.
    weight
        ``[E + 1]``.
    bounded
        Whether lengths of queries and keys keep scores between ``-_SAFE`` and ``_SAFE``.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    hidden: Tensor | None
    weight: Tensor | None
    bounded: bool


def prepare(
    query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None, weight: Tensor | None, scale: float
) -> Inputs:
    """Tokens ``[N, h, T, d]`` laid out for gathering."""
    hidden = None if key_mask is None else torch.cat([~key_mask, torch.zeros_like(key_mask[:1])])
    query, key, value = by_heads(query, scale * LOG2E), by_heads(key), by_heads(value)
    if weight is not None:
        weight = torch.cat([weight, torch.zeros_like(weight[:1])]).to(query.dtype)
    return Inputs(query, key, value, hidden, weight, _bounded(query, key))


def by_heads(tensor: Tensor, factor: float = 1.0) -> Tensor:
    """``[N, h, T, d]`` as ``[h, N + 1, T, d]`` times a factor, in single precision at least."""
    nodes, heads, tokens, width = tensor.shape
    kind = torch.promote_types(tensor.dtype, torch.float32)
    out = tensor.new_empty(heads, nodes + 1, tokens, width, dtype=kind)
    torch.mul(tensor.transpose(0, 1), factor, out=out[:, :nodes])
    out[:, nodes] = 0.0
    return out


def _bounded(query: Tensor, key: Tensor) -> bool:
    if not query.numel() or not key.numel():
        return True
    lengths = (torch.linalg.vector_norm(tensor, dim=-1).flatten(1).amax(1) for tensor in (query, key))
    return bool(torch.mul(*lengths).amax() <= _SAFE)


class Part:
    """Attention of one block, not yet divided by its sums.

    Shapes: h heads, B nodes in the middle of the block, n sources and m destinations of each, S and T tokens;
    X = h B, and n or m is one. Scores stand with source tokens in front: sums over the tokens of a source then run
    along rows of m T numbers, however few tokens there are.

    Attributes
    ----------
    query, key, value
        ``[X, m T, d]``, ``[X, n S, d]`` and ``[X, n S, d_v]``.
    exponential
        ``[X, n, S, m T]``.
    reciprocal
        One over its sums, ``[X, n, m T]``.
    weight
        ``[X, n, m T]``.
    """

    def __init__(self, inputs: Inputs, block: Block) -> None:
        heads, tokens = inputs.query.size(0), inputs.query.size(2)
        self.block, self.heads, (self.count, self.sources) = block, heads, block.src.shape
        self.query_rows = _rows(block.dst, heads, inputs.query.size(1))
        self.key_rows = _rows(block.src, heads, inputs.key.size(1))
        self.query = self.gather(inputs.query, self.query_rows)
        self.key, self.value = (self.gather(tensor, self.key_rows) for tensor in (inputs.key, inputs.value))
        scores = torch.matmul(self.key, self.query.transpose(1, 2))
        scores = scores.view(heads, self.count, self.sources, inputs.key.size(2), -1)
        if inputs.hidden is not None:
            scores.masked_fill_(inputs.hidden[block.src][..., None], -torch.inf)
        if not inputs.bounded:
            scores.sub_(scores.amax(3, keepdim=True))
        self.exponential = scores.exp2_().flatten(0, 1)
        self.reciprocal = self.exponential.sum(2).reciprocal_()
        self.weight: Tensor | None = None
        if inputs.weight is not None:
            weight = inputs.weight[block.edge].view(1, self.count, self.sources, -1, 1)
            weight = weight.expand(heads, -1, -1, -1, tokens)
            self.weight = weight.reshape(self.reciprocal.shape)

    def gather(self, tensor: Tensor, rows: Tensor) -> Tensor:
        """Tokens of the nodes that one in the middle is joined with, in a row: ``[X, m T or n S, d]``."""
        found = tensor.flatten(0, 1).index_select(0, rows)
        return found.view(self.heads * self.count, -1, tensor.size(-1))

    def add_to(self, total: Tensor, rows: Tensor, tokens: Tensor) -> None:
        """The opposite of :meth:`gather`: add ``[X, m T or n S, d]`` where it belongs."""
        total.flatten(0, 1).index_add_(0, rows, tokens.view(-1, *total.shape[2:]))

    def keep(self, dropout: float, seed: int, first_head: int) -> Tensor:
        """What dropout multiplies attention with, ``[X, n, S, m T]``; the same whichever heads come together."""
        out = torch.empty_like(self.exponential)
        for index, noise in enumerate(out.view(self.heads, self.count, *out.shape[1:])):
            generator = torch.Generator(out.device).manual_seed((seed + first_head + index) % 2**62)
            noise.bernoulli_(1.0 - dropout, generator=generator)
        return out.div_(1.0 - dropout)

    def rows_of(self, tensor: Tensor) -> Tensor:
        """``[X, n, S, m T]`` as matrices ``[X, n S, m T]``."""
        return tensor.flatten(1, 2)


def _rows(nodes: Tensor, heads: int, count: int) -> Tensor:
    """Rows (head, node) of a matrix that has ``count`` rows per head."""
    return (torch.arange(heads, device=nodes.device)[:, None] * count + nodes.flatten()).flatten()
