"""Tokens of nodes, as blocks of edges take them and give back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Room:
    """Memory that one block after the other uses; what it held before is lost.

    Sizes of blocks differ a little, and pieces of fresh memory for each would soon lie about in between others.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def of(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """A tensor of this shape, of the type and device of ``like``, that holds anything."""
        count = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < count:
            held = self._held[name] = like.new_empty(count)
        return held[:count].view(shape)


class Nodes(Protocol):
    """Tokens of the nodes of one side, as blocks read them."""

    #: What is read, in an order of its own.
    held: Tensor

    def of(self, heads: slice) -> Nodes:
        """Those of some heads."""
        ...

    def take(self, nodes: Tensor, room: Room, name: str) -> Tensor:
        """Tokens ``[H B, k T, d]`` of nodes ``[B, k]``, those of a row of nodes one after the other."""
        ...


class Middle:
    """Nodes that stand in the middle of blocks, one per row: few, so that they are read where they are.

    Parameters
    ----------
    held
        ``[N, H, T, d]``.
    """

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def reading(cls, tensor: Tensor, factor: float = 1.0) -> Middle:
        """Tokens ``[N, H, T, d]``, times a factor, in single precision at least."""
        tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        return cls(tensor if factor == 1.0 else tensor * factor)

    def of(self, heads: slice) -> Middle:
        """Those of some heads."""
        return Middle(self.held[:, heads])

    def take(self, nodes: Tensor, room: Room, name: str) -> Tensor:
        """Tokens ``[H B, T, d]`` of nodes ``[B, 1]``; ``room`` is not needed."""
        return self.held.index_select(0, nodes[:, 0]).transpose(0, 1).flatten(0, 1)


class ByHead:
    """Tokens of nodes laid out by heads, so that many nodes of a head are copied or added to quickly.

    Nodes that stand around others, many per row of a block, are read so, and nodes of either side are added up so.

    Parameters
    ----------
    held
        ``[H, N + 1, T, d]``; the last node is empty, and what padding takes from and gives to.
    """

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def reading(cls, tensor: Tensor, factor: float = 1.0) -> ByHead:
        """Tokens ``[N, H, T, d]``, times a factor, in single precision at least."""
        nodes, heads, tokens, width = tensor.shape
        kind = torch.promote_types(tensor.dtype, torch.float32)
        held = tensor.new_empty(heads, nodes + 1, tokens, width, dtype=kind)
        torch.mul(tensor.transpose(0, 1), factor, out=held[:, :-1])
        held[:, -1] = 0.0
        return cls(held)

    @classmethod
    def adding(cls, shape: Sequence[int], like: Tensor) -> ByHead:
        """Zeros for tokens ``[N, H, T, d]``, of the type and device of ``like``."""
        nodes, heads, tokens, width = shape
        return cls(like.new_zeros(heads, nodes + 1, tokens, width))

    def of(self, heads: slice) -> ByHead:
        """Those of some heads; what is given to them is given here."""
        return ByHead(self.held[heads])

    def take(self, nodes: Tensor, room: Room, name: str) -> Tensor:
        """Tokens ``[H B, k T, d]`` of nodes ``[B, k]``, in memory of ``room`` under this name."""
        rows, flat = self._rows(nodes), self.held.flatten(0, 1)
        out = room.of(name, flat, len(rows), *flat.shape[1:])
        torch.index_select(flat, 0, rows, out=out)
        return out.view(len(self.held) * len(nodes), -1, flat.size(-1))

    def give(self, nodes: Tensor, tokens: Tensor) -> None:
        """Add tokens ``[H B, k T, d]`` to nodes ``[B, k]``."""
        self.held.flatten(0, 1).index_add_(0, self._rows(nodes), tokens.view(-1, *self.held.shape[2:]))

    def result(self, factor: float) -> Tensor:
        """What was added up, times a factor, ``[N, H, T, d]``."""
        held = self.held if factor == 1.0 else self.held.mul_(factor)
        return held[:, :-1].transpose(0, 1)

    def _rows(self, nodes: Tensor) -> Tensor:
        heads, count = self.held.shape[:2]
        flat = nodes.flatten()
        return flat if heads == 1 else (torch.arange(heads, device=nodes.device)[:, None] * count + flat).flatten()
