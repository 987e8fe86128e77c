"""Tokens of the nodes of one side, as blocks of edges take them and give back."""

from __future__ import annotations

import math
from typing import Protocol, Self

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
    """Tokens ``[N, h, T, d]`` of some heads, read or added up."""

    def take(self, nodes: Tensor, room: Room, name: str) -> Tensor:
        """Tokens ``[h B, k T, d]`` of nodes ``[B, k]``, those of a row of nodes one after the other."""
        ...

    def give(self, nodes: Tensor, tokens: Tensor) -> None:
        """Add tokens ``[h B, k T, d]`` where they would have been taken."""
        ...

    def finish(self) -> None:
        """Write what was added up where it belongs."""
        ...


class Middle:
    """Nodes that stand in the middle of blocks, one per row: few, so that they are read where they are.

    Parameters
    ----------
    tensor
        ``[N, h, T, d]``, in single precision at least where it is added to.
    factor
        Of what is taken or given.
    """

    def __init__(self, tensor: Tensor, factor: float = 1.0) -> None:
        self.tensor, self.factor = tensor, factor
        self.kind = torch.promote_types(tensor.dtype, torch.float32)

    def take(self, nodes: Tensor, room: Room, name: str) -> Tensor:
        """Tokens ``[h B, T, d]`` of nodes ``[B, 1]``; ``room`` is not needed."""
        found = self.tensor.index_select(0, nodes[:, 0]).transpose(0, 1).flatten(0, 1).to(self.kind)
        return found if self.factor == 1.0 else found * self.factor

    def give(self, nodes: Tensor, tokens: Tensor) -> None:
        """Add tokens ``[h B, T, d]`` to nodes ``[B, 1]``."""
        tokens = tokens.unflatten(0, (self.tensor.size(1), -1)).transpose(0, 1)
        self.tensor.index_add_(0, nodes[:, 0], tokens, alpha=self.factor)

    def finish(self) -> None:
        """All is where it belongs."""


class Around:
    """Nodes that stand around others, many per row of a block: laid out by heads, to be copied quickly.

    One more, empty, node stands at the end, which padding takes from and gives to.

    Parameters
    ----------
    tensor
        ``[N, h, T, d]``.
    factor
        Of what is taken.
    """

    def __init__(self, tensor: Tensor, factor: float = 1.0) -> None:
        self._lay(tensor, factor)
        torch.mul(tensor.transpose(0, 1), factor, out=self.laid[:, :-1])
        self.laid[:, -1] = 0.0

    @classmethod
    def total(cls, tensor: Tensor, factor: float = 1.0) -> Self:
        """For :meth:`give`; ``tensor`` becomes what is given times ``factor``, in :meth:`finish`."""
        new = cls.__new__(cls)
        new._lay(tensor, factor)
        new.laid.zero_()
        return new

    def _lay(self, tensor: Tensor, factor: float) -> None:
        self.tensor, self.factor = tensor, factor
        nodes, heads, tokens, width = tensor.shape
        kind = torch.promote_types(tensor.dtype, torch.float32)
        self.laid = tensor.new_empty(heads, nodes + 1, tokens, width, dtype=kind)

    def take(self, nodes: Tensor, room: Room, name: str) -> Tensor:
        """Tokens ``[h B, k T, d]`` of nodes ``[B, k]``, in memory of ``room`` under this name."""
        rows, flat = self._rows(nodes), self.laid.flatten(0, 1)
        out = room.of(name, flat, len(rows), *flat.shape[1:])
        torch.index_select(flat, 0, rows, out=out)
        return out.view(len(self.laid) * len(nodes), -1, flat.size(-1))

    def give(self, nodes: Tensor, tokens: Tensor) -> None:
        """Add tokens ``[h B, k T, d]`` to nodes ``[B, k]``."""
        self.laid.flatten(0, 1).index_add_(0, self._rows(nodes), tokens.view(-1, *self.laid.shape[2:]))

    def finish(self) -> None:
        """Write what was added up."""
        torch.mul(self.laid[:, :-1].transpose(0, 1), self.factor, out=self.tensor)

    def _rows(self, nodes: Tensor) -> Tensor:
        heads, count = self.laid.shape[:2]
        return (torch.arange(heads, device=nodes.device)[:, None] * count + nodes.flatten()).flatten()
