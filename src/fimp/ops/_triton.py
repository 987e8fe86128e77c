"""Edge attention fused into Triton kernels: gather, attention and the sum over in-edges without a tensor per edge.

What is kept between the passes, beyond inputs and output, are two numbers per edge, head and query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from types import ModuleType

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LARGEST_HEAD = 256


def obstacle(query: Tensor, key: Tensor, value: Tensor) -> str | None:
    """Why these tensors cannot be computed here, as one line that ends in a remedy; None if they can."""
    try:
        from fimp.ops import _triton_kernels
    except ModuleNotFoundError:
        return "needs the package triton, which is not installed; pip install 'fimp[triton]' or use backend='chunked'"
    other = "use backend='chunked'"
    if query.dtype not in _TYPES:
        return f"does not take query of type {query.dtype}, only {', '.join(map(str, _TYPES))}; {other}"
    for name, tensor in (("key", key), ("value", value)):
        if tensor.dtype != query.dtype:
            return f"found {name} of type {tensor.dtype}, wanted that of query, {query.dtype}; convert one of them"
    for name, size in (("query", query.size(-1)), ("value", value.size(-1))):
        if not 1 <= size <= _LARGEST_HEAD:
            return f"found heads of size {size} in {name}, wanted 1 to {_LARGEST_HEAD}; {other}"
    if not (query.is_cuda or _triton_kernels.INTERPRETED):
        return f"found query on {query.device.type}, wanted a GPU or TRITON_INTERPRET=1 set before Python starts; {other}"
    if query.is_cuda and torch.cuda.get_device_capability(query.device) < (8, 0):
        return f"wants a GPU of compute capability 8.0 or above; {other}"
    return None


def weighted_sum(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    src: Tensor,
    dst: Tensor,
    key_mask: Tensor | None,
    share: Tensor,
    scale: float,
    dropout: float,
    blocks: tuple[int, int] | None = None,
) -> Tensor:
    """Sum over in-edges of messages times their shares, ``[N_dst, H, T, d_v]``.

    Parameters
    ----------
    query, key, value, src, dst, key_mask, scale, dropout
        As in :func:`fimp.ops.edge_attention`. Any strides will do, so long as the last is one.
    share
        Factor of each message, ``[E]``, float64 if the queries are and float32 otherwise. It must be zero for sources
        without any real token.
    blocks
        Queries and keys per block, powers of two from 16. Found by timing, once per shape, by default; under Triton's
        interpreter chosen by shape.

    Raises
    ------
    FIMPError
        If :func:`obstacle` names one.
    """
    reason = obstacle(query, key, value)
    if reason is not None:
        raise FIMPError(f"edge_attention: backend='triton' {reason}")
    # Drawn from torch's global generator, so that torch.manual_seed governs dropout here too.
    seed = int(torch.randint(2**62, ())) if dropout > 0.0 else 0
    mask = None if key_mask is None else key_mask.contiguous().view(torch.uint8)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value, share))
    inputs = [tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (query, key, value)]
    out: Tensor = _WeightedSum.apply(*inputs, share, src, dst, mask, scale, dropout, seed, keep, blocks)
    return out


class _Lists(NamedTuple):
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


def _lists(end: Tensor, other: Tensor, nodes: int) -> _Lists:
    ordered, edge = end.sort(stable=True)
    start = torch.searchsorted(ordered, torch.arange(nodes + 1, device=end.device, dtype=end.dtype), out_int32=True)
    return _Lists(start, other[edge].int(), edge.int())


def _precision() -> str:
    """How single precision is multiplied: as PyTorch is told to on a GPU."""
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)  # torch 2.8 does not have it, later ones refuse to mix the two
    allowed = matmul.allow_tf32 if precision is None else precision == "tf32"
    return "tf32" if allowed else "ieee"


def _like(tensor: Tensor, width: int) -> Tensor:
    """Empty ``[N, H, T, width]`` in the memory order of ``tensor``, so that what follows needs no copy either."""
    if tensor.transpose(1, 2).is_contiguous():
        return tensor.new_empty(tensor.size(0), tensor.size(2), tensor.size(1), width).transpose(1, 2)
    return tensor.new_empty(*tensor.shape[:3], width)


class _Launch:
    """Starts kernels with the arguments that they share."""

    def __init__(
        self, tensors: tuple[Tensor, ...], mask: Tensor | None, share: Tensor, options: tuple[Any, ...]
    ) -> None:
        from fimp.ops import _triton_blocks, _triton_kernels

        query, key, value = tensors
        scale, dropout, seed, blocks = options
        tokens, sources = query.size(2), key.size(2)
        self.blocks, self.sizes = blocks, _triton_blocks
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
            "PRECISION": _precision(),
            "HAS_MASK": mask is not None,
        }

    @property
    def one_block(self) -> bool:
        """Whether the backward pass finds a source in one block."""
        key, value = self.given["key"], self.given["value"]
        if self.blocks is not None:
            return key.size(2) <= self.blocks[1]
        return bool(self.sizes.fits_one_block(key.size(2), key.size(3), value.size(3), key.element_size()))

    def __call__(self, kernel: Any, own: str, lists: _Lists, **given: Any) -> None:
        """Run ``kernel`` with a program per node of ``lists``, head and block of its ``own`` tokens."""
        nodes = lists.start.numel() - 1
        count, size = {"query": ("tokens", "BLOCK_M"), "key": ("sources", "BLOCK_N")}[own]
        total = nodes * self.given["heads"]
        if total * self.given[count] == 0:
            return
        given = {**self.given, **lists._asdict(), **given, "nodes": nodes}
        if self.blocks is not None:
            kernel, given["BLOCK_M"], given["BLOCK_N"] = kernel.fn, *self.blocks

        def grid(chosen: dict[str, Any]) -> tuple[int]:
            return (total * -(-self.given[count] // chosen[size]),)

        with torch.cuda.device_of(self.given["query"]):
            kernel[grid](**given)


def strides(**tensors: Tensor) -> dict[str, int]:
    """Strides of nodes, heads and tokens by the names that kernels give them."""
    return {
        f"{name}_{what}": step
        for name, tensor in tensors.items()
        for what, step in zip(("node", "head", "token"), tensor.stride()[:3], strict=True)
    }


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        share: Tensor,
        src: Tensor,
        dst: Tensor,
        mask: Tensor | None,
        scale: float,
        dropout: float,
        seed: int,
        keep: bool,
        blocks: tuple[int, int] | None,
    ) -> Tensor:
        from fimp.ops import _triton_kernels

        ctx.options = (scale, dropout, seed, blocks)
        launch = _Launch((query, key, value), mask, share, ctx.options)
        lists = _lists(dst, src, query.size(0))
        out = _like(query, value.size(3))
        log_sum = share.new_empty((src.numel(), *query.shape[1:3]) if keep else (0,))
        launch(
            _triton_kernels.forward, "query", lists, out=out, **strides(o=out), log_sum=log_sum, KEEP=keep
        )
        ctx.save_for_backward(query, key, value, share, src, dst, mask, log_sum, *lists)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        from fimp.ops import _triton_backward

        query, key, value, share, src, dst, mask, log_sum, *lists = ctx.saved_tensors
        grad_out = grad_out if grad_out.stride(-1) == 1 else grad_out.contiguous()
        launch = _Launch((query, key, value), mask, share, ctx.options)
        worth = torch.empty_like(log_sum)
        state = {"grad_out": grad_out, "log_sum": log_sum, "worth": worth, **strides(o=grad_out)}
        wants_query, wants_key, wants_value, wants_share = ctx.needs_input_grad[:4]
        grads: list[Tensor | None] = [None] * 12
        grads[0] = to_query = _like(query, query.size(3))
        phases = [(True, True)] if launch.one_block else [(True, False), (False, True)]
        for find, add in phases:
            launch(
                _triton_backward.query_gradient, "query", _Lists(*lists), **state, grad=to_query,
                **strides(g=to_query), FIND_WORTH=find, ADD_GRAD=add,
            )
        if wants_key or wants_value:
            grads[1], grads[2] = to_key, to_value = _like(key, key.size(3)), _like(value, value.size(3))
            launch(
                _triton_backward.source_gradient, "key", _lists(src, dst, key.size(0)), **state, grad_key=to_key,
                grad_value=to_value, **strides(gk=to_key, gv=to_value),
            )
        if wants_share:
            grads[3] = worth.sum((1, 2))
        return tuple(grads)
