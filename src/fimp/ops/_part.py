"""What one block of edges computes, alike in the forward and the backward pass of edge attention."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fimp.ops._blocks import Block
from fimp.ops._nodes import Nodes, Room

#: Scores, in powers of two, of which no maximum need be subtracted: nothing made of them leaves the range of a float.
_SAFE = 60.0
LOG2E = math.log2(math.e)


class Inputs(NamedTuple):
    """What blocks read.

    Attributes
    ----------
    query
        So scaled that scores are powers of two.
    key, value
        Of the sources.
    hidden
        ``[N_src + 1, S]``, True = no real token.
    weight
        ``[E + 1]``.
    bounded
        Whether scores are small enough, see :func:`bounded`.
    """

    query: Nodes
    key: Nodes
    value: Nodes
    hidden: Tensor | None
    weight: Tensor | None
    bounded: bool

    def of(self, heads: slice) -> Inputs:
        """Those of some heads."""
        return self._replace(query=self.query.of(heads), key=self.key.of(heads), value=self.value.of(heads))


def bounded(query: Tensor, key: Tensor, scale: float) -> bool:
    """Whether the lengths of queries and keys ``[N, H, T, d]`` keep all scores where no maximum is needed."""
    if not query.numel() or not key.numel():
        return True
    lengths = (
        torch.linalg.vector_norm(tensor, dim=-1, dtype=torch.promote_types(tensor.dtype, torch.float32)).amax((0, 2))
        for tensor in (query, key)
    )
    return bool(torch.mul(*lengths).amax() * (abs(scale) * LOG2E) <= _SAFE)


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

    def __init__(self, inputs: Inputs, block: Block, heads: int, room: Room) -> None:
        self.block, self.heads, self.room, (self.count, self.sources) = block, heads, room, block.src.shape
        self.query = inputs.query.take(block.dst, room, "query")
        self.key = inputs.key.take(block.src, room, "key")
        self.value = inputs.value.take(block.src, room, "value")
        scores = self.product(self.key, self.query.transpose(1, 2), "scores").unflatten(1, (self.sources, -1))
        if inputs.hidden is not None:
            hidden = inputs.hidden[block.src][..., None]
            scores.unflatten(0, (heads, -1)).masked_fill_(hidden, -torch.inf)
        if not inputs.bounded:
            # Only where it must be, so that what one node holds never changes how others are rounded.
            largest = scores.amax(2, keepdim=True)
            scores.sub_(largest.masked_fill_(largest.abs() <= _SAFE, 0.0))
        self.exponential = scores.exp2_()
        self.reciprocal = scores.sum(2).reciprocal_()
        self.weight: Tensor | None = None
        if inputs.weight is not None:
            weight = inputs.weight[block.edge].view(self.count, self.sources, -1)
            tokens = self.query.size(1) // weight.size(2)
            self.weight = weight.repeat_interleave(tokens, 2).repeat(heads, 1, 1)

    def product(self, left: Tensor, right: Tensor, name: str) -> Tensor:
        """Products of matrices, in memory that the next product of this name uses again."""
        out = self.room.of(name, left, len(left), left.size(1), right.size(2))
        return torch.bmm(left, right, out=out)

    def keep(self, dropout: float, seed: int) -> Tensor:
        """What dropout multiplies attention with, ``[X, n, S, m T]``; every head has a seed of its own."""
        out = self.room.of("keep", self.exponential, *self.exponential.shape)
        for head, noise in enumerate(out.unflatten(0, (self.heads, -1))):
            generator = torch.Generator(out.device).manual_seed((seed + head) % 2**62)
            noise.bernoulli_(1.0 - dropout, generator=generator)
        return out.div_(1.0 - dropout)
