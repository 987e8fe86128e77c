"""A stack of layers, pass by pass over blocks of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.tokenizers.base import Tokens
from fimp.train.inference.blocks import Block, Plan
from fimp.train.inference.partition import Partition
from fimp.train.inference.rows import MemoryRows, Rows, RowStore, pack, unpack

#: Largest working memory of a block in bytes: larger ones fit no cache, and smaller ones have longer borders.
_BLOCK = 2**26
#: What nodes tell is computed once and kept if it would be computed more often than this otherwise.
_REPEATS = 2.0


class Layer(Protocol):
    """What :class:`fimp.nn.FIMPLayer` and :class:`fimp.nn.FIMPConv` have in common."""

    def tell(self, h: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """What nodes ``[n, T, D]`` say, whoever hears it: tensors ``[n, ...]``."""
        ...

    def hear(
        self,
        h: Tensor,
        mask: Tensor,
        told: tuple[Tensor, ...],
        mask_src: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """New tokens ``[n, T, D]`` of nodes, from what others told them."""
        ...


class _Told(NamedTuple):
    """What a node tells in a layer: shapes of its tensors, and their type."""

    shapes: tuple[torch.Size, ...]
    dtype: torch.dtype

    @property
    def width(self) -> int:
        return sum(shape.numel() for shape in self.shapes)


class Passes:
    """All layers over the nodes of this process.

    In each layer, every block of nodes gets what its sources tell. Where blocks overlap little, that is computed for
    every block that hears it; where a node is heard in many blocks, once per node and kept (:data:`_REPEATS`).

    Parameters
    ----------
    layers, tokens
        As in :func:`fimp.train.layerwise_inference`; tokens as a function.
    part
        Nodes and edges.
    budget
        Bytes.
    store
        Makes rows.

    Raises
    ------
    FIMPError
        If a layer cannot be run in this way, or the budget does not suffice.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        tokens: Callable[[NDArray[np.int64]], Tokens],
        part: Partition,
        budget: int,
        store: RowStore,
    ) -> None:
        self._layers: list[Any] = list(layers)
        self._tokens, self._part, self._store = tokens, part, store
        self._device = next((p.device for layer in layers for p in layer.parameters()), torch.device("cpu"))
        self._told = self._try()
        state = self._shape.numel() * self._dtype.itemsize
        told = max(one.width * one.dtype.itemsize for one in self._told)
        fixed = part.nbytes + len(part.nodes) * self._shape[0]
        block = min(_BLOCK, (budget - fixed) // 4)
        if block < 16 * (state + told):
            raise FIMPError(
                f"memory_budget: {budget / 2**20:.1f} MiB, of which edges and masks take {fixed / 2**20:.1f}, leave "
                "too little for tokens; allow more"
            )

        def cost(nodes: int, sources: int) -> int:
            # A source is read, projected, and copied for attention; a node asks, hears and is updated.
            return nodes * 10 * state + sources * (2 * state + 3 * told)

        self._plan = Plan(part.edges, part.edge_weight, cost, block)
        self._keep = self._plan.repeats > _REPEATS
        store.left = budget - fixed - 2 * block

    def _try(self) -> list[_Told]:
        """Run all layers on one node, to find out what they tell."""
        found = self._tokens(self._part.nodes[:1])
        if not isinstance(found, Tokens) or found.h.dim() != 3 or found.mask.shape != found.h.shape[:2]:
            raise FIMPError("tokens: wanted Tokens of h [n, T, D] and mask [n, T]")
        h, mask = found.h.to(self._device), found.mask.to(self._device)
        self._shape, self._dtype, out = h.shape[1:], h.dtype, []
        loop = torch.zeros(2, len(h), dtype=torch.int64, device=self._device)
        for number, layer in enumerate(self._layers):
            if not (hasattr(layer, "tell") and hasattr(layer, "hear")):
                raise FIMPError(
                    f"layers: number {number} is a {type(layer).__name__}, which has no tell and hear; "
                    "use FIMPLayer, FIMPConv or a layer with these methods"
                )
            told = layer.tell(h, mask)
            new = layer.hear(h, mask, told, mask, loop, None)
            if new.shape != h.shape or new.dtype != h.dtype:
                was, made = (f"{list(one.shape[1:])} {one.dtype}" for one in (h, new))
                raise FIMPError(f"layers: number {number} makes {made} of {was}, wanted the same again")
            out.append(_Told(tuple(one.shape[1:] for one in told), told[0].dtype))
            h = new
        return out

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], Tokens]]:
        """Run; yields nodes ``[n]`` and their last tokens ``[n, T, D]``."""
        part, count = self._part, len(self._part.nodes)
        states = self._rows(count, self._shape.numel(), self._dtype)
        self._masks = MemoryRows(count, self._shape[0], torch.bool)
        for start, stop in self._plan.bounds:
            h, mask = self._tokens(part.nodes[start:stop])
            states.write(start, pack((h.cpu(),)))
            self._masks.write(start, mask.cpu())
        part.exchange(self._masks, self._shape[0], torch.bool)
        spare = states
        if len(self._layers) > 1 and not self._keep:
            spare = self._rows(count, self._shape.numel(), self._dtype)
        for number, (layer, told) in enumerate(zip(self._layers, self._told, strict=True)):
            kept = self._tell_all(layer, told, states) if self._keep else None
            if kept is None:
                part.exchange(states, self._shape.numel(), self._dtype)
            for block in self._plan.blocks(bool(getattr(layer, "add_self_loops", False))):
                new, mask = self._hear(layer, told, block, states, kept)
                if number + 1 < len(self._layers):
                    # Nobody but the node itself reads its state where what it told is kept: spare is the same then.
                    spare.write(block.start, pack((new,)))
                else:
                    yield part.nodes[block.start : block.stop], Tokens(new, mask)
            states, spare = spare, states
            if kept is not None:
                self._store.close(kept)

    def _rows(self, count: int, width: int, dtype: torch.dtype) -> Rows:
        return self._store.rows(count, width, dtype)

    def _tell_all(self, layer: Layer, told: _Told, states: Rows) -> Rows:
        """What all nodes tell, computed once."""
        kept = self._rows(len(self._part.nodes), told.width, told.dtype)
        for start, stop in self._plan.bounds:
            h, mask = self._read(states, np.arange(start, stop))
            kept.write(start, pack(layer.tell(h, mask)).cpu())
        self._part.exchange(kept, told.width, told.dtype)
        return kept

    def _hear(self, layer: Layer, told: _Told, block: Block, states: Rows, kept: Rows | None) -> tuple[Tensor, Tensor]:
        """New states of a block, and their mask."""
        own = np.arange(block.start, block.stop)
        if kept is None:
            h_src, mask_src = self._read(states, block.sources)
            heard = layer.tell(h_src, mask_src)
            first = int(np.searchsorted(block.sources, block.start))
            among = slice(first, first + len(own))
            if np.array_equal(block.sources[among], own):
                # All of the block's nodes are heard in it, as most are where neighbours lie together: read once.
                h, mask = h_src[among], mask_src[among]
            else:
                h, mask = self._read(states, own)
        else:
            mask_src = self._masks.gather(block.sources).to(self._device)
            heard = unpack(kept.gather(block.sources).to(self._device), told.shapes)
            h, mask = self._read(states, own)
        weight = None if block.edge_weight is None else block.edge_weight.to(self._device)
        new = layer.hear(h, mask, heard, mask_src, block.edge_index.to(self._device), weight)
        return new.cpu(), mask.cpu()

    def _read(self, states: Rows, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """States ``[n, T, D]`` and masks ``[n, T]``."""
        h = states.gather(rows).to(self._device).unflatten(1, self._shape)
        return h, self._masks.gather(rows).to(self._device)
