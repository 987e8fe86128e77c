"""Starts the Triton kernels of edge attention: lists of edges, the arguments that kernels share, and grids."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fimp.ops import _triton_blocks, _triton_kernels


class Lists(NamedTuple):
    """Edges sorted by the node at one end.

    Attributes
    ----------
    start
        Where the list of each node starts, and the end of the last, ``[N + 1]``.
    other
        Node at the other end, ``[E]``.
    edge
        Number of the edge, ``[E]``.
    """

    start: Tensor
    other: Tensor
    edge: Tensor


def lists_of(end: Tensor, other: Tensor, nodes: int) -> Lists:
    """Sort edges by their ``end``, one of ``nodes``; edges of one node keep their order."""
    ordered, edge = end.sort(stable=True)
    start = torch.searchsorted(ordered, torch.arange(nodes + 1, device=end.device, dtype=end.dtype), out_int32=True)
    return Lists(start, other[edge].int(), edge.int())


def strides(**tensors: Tensor) -> dict[str, int]:
    """Strides of nodes, heads and tokens by the names that kernels give them."""
    return {
        f"{name}_{what}": step
        for name, tensor in tensors.items()
        for what, step in zip(("node", "head", "token"), tensor.stride()[:3], strict=True)
    }


def precision() -> str:
    """How single precision is multiplied: as PyTorch is told to on a GPU."""
    matmul = torch.backends.cuda.matmul
    # torch 2.8 does not have it; later ones refuse to say allow_tf32 once it was set.
    told = getattr(matmul, "fp32_precision", None)
    allowed = matmul.allow_tf32 if told is None else told == "tf32"
    return "tf32" if allowed else "ieee"


class Launch:
    """Starts kernels with the arguments that they share."""

    def __init__(
        self, tensors: tuple[Tensor, ...], mask: Tensor | None, share: Tensor, options: tuple[Any, ...]
    ) -> None:
        query, key, value = tensors
        scale, dropout, seed, blocks = options
        tokens, sources = query.size(2), key.size(2)
        self.blocks = blocks
        if blocks is None and _triton_kernels.INTERPRETED:
            self.blocks = _triton_blocks.fixed(tokens, sources)
        self.given: dict[str, Any] = {
            **dict(zip(("query", "key", "value"), tensors, strict=True)),
            **strides(q=query, k=key, v=value),
            "share": share,
            "mask": share if mask is None else mask,
            "heads": query.size(1),
            "tokens": tokens,
            "sources": sources,
            "seed": seed,
            "D": query.size(3),
            "DV": value.size(3),
            "BLOCK_D": _triton_blocks.bucket(query.size(3)),
            "BLOCK_DV": _triton_blocks.bucket(value.size(3)),
            "T_BUCKET": _triton_blocks.bucket(tokens),
            "S_BUCKET": _triton_blocks.bucket(sources),
            "SCALE": scale,
            "DROPOUT": dropout,
            "PRECISION": precision(),
            "HAS_MASK": mask is not None,
        }

    @property
    def one_block(self) -> bool:
        """Whether the backward pass finds a source in one block."""
        if self.blocks is not None:
            return bool(self.given["sources"] <= self.blocks[1])
        return _triton_blocks.in_one_block(self.given)

    def __call__(self, kernel: Any, own: str, lists: Lists, **given: Any) -> None:
        """Run ``kernel`` with a program per node of ``lists``, head and block of its ``own`` tokens."""
        nodes = lists.start.numel() - 1
        count, size = {"query": ("tokens", "BLOCK_M"), "key": ("sources", "BLOCK_N")}[own]
        total = nodes * self.given["heads"]
        if total * self.given[count] == 0:
            return
        given = {**self.given, **lists._asdict(), **given, "nodes": nodes}
        if self.blocks is not None:
            # The kernel inside the autotuner, which cannot run without a GPU.
            kernel = kernel.fn
            given["BLOCK_M"], given["BLOCK_N"] = self.blocks

        def grid(chosen: dict[str, Any]) -> tuple[int]:
            return (total * -(-self.given[count] // chosen[size]),)

        with torch.cuda.device_of(self.given["query"]):
            kernel[grid](**given)
