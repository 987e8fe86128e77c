"""Sums over in-edges of messages that any function makes, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fimp.ops.attention import check_edges


def edge_sum(
    message: Callable[..., Tensor],
    destination: Tensor,
    sources: Sequence[Tensor],
    edge_index: Tensor,
    edge_weight: Tensor,
    shape: Sequence[int],
    *,
    chunk: int,
    parameters: Sequence[Tensor] = (),
    random: bool = False,
) -> Tensor:
    r"""Sum messages at their destinations without holding more than a chunk of them.

    .. math::
        \mathrm{out}_i = \sum_{e:\,dst(e)=i} w_e\; \mathrm{message}(x_i, y_{src(e)}, z_{src(e)}, \ldots)

    The backward pass makes the messages of a chunk again and adds their gradients where they belong, so that it
    holds no more than that either. Gradients are exact; it cannot be differentiated twice.

    Parameters
    ----------
    message
        Takes rows of ``destination`` and of every one of ``sources``, one row per edge, and returns ``[e, *shape]``.
        It must compute the same again whenever called, but for randomness.
    destination
        ``[N_dst, ...]``.
    sources
        Tensors ``[N_src, ...]``; boolean ones (masks) too.
    edge_index
        ``[2, E]``, source in row 0.
    edge_weight
        ``[E]``.
    shape
        Shape of one message.
    chunk
        Number of edges at a time.
    parameters
        Tensors that ``message`` uses besides its arguments and that may need gradients.
    random
        Whether ``message`` draws random numbers; the backward pass then draws the same.

    Returns
    -------
    Tensor
        ``[N_dst, *shape]``, of the type of ``destination``. Zero for a node without in-edges.

    Raises
    ------
    FIMPError
        If ``edge_index`` or ``edge_weight`` do not fit, or whatever ``message`` raises.
    """
    check_edges("edge_sum", edge_index, len(sources[0]), len(destination), edge_weight)
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    out: Tensor = _EdgeSum.apply(
        _Job(message, tuple(shape), max(1, chunk), random, len(sources)),
        edge_index[0],
        edge_index[1],
        edge_weight,
        destination,
        *sources,
        *learned,
    )
    return out


class _Job:
    """What both passes need besides tensors."""

    def __init__(
        self, message: Callable[..., Tensor], shape: tuple[int, ...], chunk: int, random: bool, sources: int
    ) -> None:
        self.message, self.shape, self.chunk, self.sources = message, shape, chunk, sources
        # Drawn from torch's global generator, so that torch.manual_seed governs messages too.
        self.seed = int(torch.randint(2**62, ())) if random else None

    def note_autocast(self, device: torch.device) -> None:
        """Remember what autocasting the forward pass runs under: the backward pass runs outside of it."""
        kind = device.type
        self.device, self.autocast = device, (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))

    @contextmanager
    def surroundings(self, index: int) -> Iterator[None]:
        """Random state and autocasting of one chunk, the same in both passes."""
        enabled, dtype = self.autocast
        with ExitStack() as stack:
            # Cast weights must not be kept: those of a pass without gradients would serve one with.
            stack.enter_context(torch.autocast(self.device.type, dtype=dtype, enabled=enabled, cache_enabled=False))
            if self.seed is not None:
                stack.enter_context(torch.random.fork_rng([self.device] if self.device.type == "cuda" else []))
                torch.manual_seed((self.seed + index) % 2**62)
            yield


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, job: _Job, src: Tensor, dst: Tensor, weight: Tensor, destination: Tensor, *rest: Tensor
    ) -> Tensor:
        job.note_autocast(destination.device)
        ctx.job = job
        ctx.save_for_backward(src, dst, weight, destination, *rest)
        out = destination.new_zeros(len(destination), *job.shape)
        for index, edges in enumerate(_chunks(dst, job.chunk)):
            with job.surroundings(index):
                made = job.message(destination[dst[edges]], *(one[src[edges]] for one in rest[: job.sources]))
            out.index_add_(0, dst[edges], made.to(out.dtype) * _like(weight[edges], made).to(out.dtype))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        job: _Job = ctx.job
        src, dst, weight, *tensors = ctx.saved_tensors
        rows = 1 + job.sources
        needs_weight, needs = ctx.needs_input_grad[3], list(ctx.needs_input_grad[4:])
        grads = [torch.zeros_like(tensor) if need else None for tensor, need in zip(tensors, needs, strict=True)]
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        for index, edges in enumerate(_chunks(dst, job.chunk)):
            places = [dst[edges], *[src[edges]] * job.sources]
            local = [
                tensor[place].detach().requires_grad_(need)
                for tensor, place, need in zip(tensors, places, needs, strict=False)
            ]
            with torch.enable_grad(), job.surroundings(index):
                made = job.message(*local)
            of_message = grad_out[dst[edges]]
            if grad_weight is not None:
                grad_weight[edges] = (of_message * made.detach()).flatten(1).sum(1).to(weight.dtype)
            inputs = [tensor for tensor, need in zip([*local, *tensors[rows:]], needs, strict=True) if need]
            if not inputs or not made.requires_grad:
                continue
            weighted = (of_message * _like(weight[edges], of_message)).to(made.dtype)
            found = iter(torch.autograd.grad(made, inputs, weighted, allow_unused=True))
            for position, grad in enumerate(grads):
                if grad is None or (part := next(found)) is None:
                    continue
                if position < rows:
                    grad.index_add_(0, places[position], part.to(grad.dtype))
                else:
                    grad.add_(part)
        return (None, None, None, grad_weight, *grads)


def _chunks(dst: Tensor, chunk: int) -> Iterator[Tensor]:
    """Edges in chunks, those of a destination next to each other."""
    if dst.numel():
        yield from dst.argsort(stable=True).split(chunk)


def _like(weight: Tensor, message: Tensor) -> Tensor:
    """``[e]`` as ``[e, 1, ...]``."""
    return weight.view(-1, *[1] * (message.dim() - 1))
