"""Edge attention fused into Triton kernels: gather, attention and the sum over in-edges without a tensor per edge.

What is kept between the passes, beyond inputs and output, are two numbers per edge, head and query.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fimp.errors import FIMPError

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
    if query.dtype == torch.float64 and not _triton_kernels.HAS_DOUBLE:
        return f"takes query of type torch.float64 with triton 3.6 or above only; {other}"
    for name, tensor in (("key", key), ("value", value)):
        if tensor.dtype != query.dtype:
            return f"found {name} of type {tensor.dtype}, wanted that of query, {query.dtype}; convert one of them"
    for name, size in (("query", query.size(-1)), ("value", value.size(-1))):
        if not 1 <= size <= _LARGEST_HEAD:
            return f"found heads of size {size} in {name}, wanted 1 to {_LARGEST_HEAD}; {other}"
    if not (query.is_cuda or _triton_kernels.INTERPRETED):
        return f"found query on {query.device.type}, wanted a GPU, or TRITON_INTERPRET=1 before Python starts; {other}"
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


def _like(tensor: Tensor, width: int) -> Tensor:
    """Empty ``[N, H, T, width]`` in the memory order of ``tensor``, so that what follows needs no copy either."""
    if tensor.transpose(1, 2).is_contiguous():
        return tensor.new_empty(tensor.size(0), tensor.size(2), tensor.size(1), width).transpose(1, 2)
    return tensor.new_empty(*tensor.shape[:3], width)


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
        from fimp.ops._triton_launch import Launch, lists_of, strides

        ctx.options = (scale, dropout, seed, blocks)
        launch = Launch((query, key, value), mask, share, ctx.options)
        lists = lists_of(dst, src, query.size(0))
        out = _like(query, value.size(3))
        log_sum = share.new_empty((src.numel(), *query.shape[1:3]) if keep else (0,))
        launch(_triton_kernels.forward, "query", lists, out=out, **strides(o=out), log_sum=log_sum, KEEP=keep)
        ctx.save_for_backward(query, key, value, share, src, dst, mask, log_sum, *lists)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        from fimp.ops import _triton_backward
        from fimp.ops._triton_launch import Launch, Lists, lists_of, strides

        query, key, value, share, src, dst, mask, log_sum, *lists = ctx.saved_tensors
        grad_out = grad_out if grad_out.stride(-1) == 1 else grad_out.contiguous()
        launch = Launch((query, key, value), mask, share, ctx.options)
        worth = torch.empty_like(log_sum)
        state = {"grad_out": grad_out, "log_sum": log_sum, "worth": worth, **strides(o=grad_out)}
        _, wants_key, wants_value, wants_share = ctx.needs_input_grad[:4]
        grads: list[Tensor | None] = [None] * 12
        grads[0] = to_query = _like(query, query.size(3))
        phases = [(True, True)] if launch.one_block else [(True, False), (False, True)]
        for find, add in phases:
            launch(
                _triton_backward.query_gradient,
                "query",
                Lists(*lists),
                **state,
                grad=to_query,
                **strides(g=to_query),
                FIND_WORTH=find,
                ADD_GRAD=add,
            )
        if wants_key or wants_value:
            grads[1], grads[2] = to_key, to_value = _like(key, key.size(3)), _like(value, value.size(3))
            launch(
                _triton_backward.source_gradient,
                "key",
                lists_of(src, dst, key.size(0)),
                **state,
                grad_key=to_key,
                grad_value=to_value,
                **strides(gk=to_key, gv=to_value),
            )
        if wants_share:
            grads[3] = worth.sum((1, 2))
        return tuple(grads)
