"""Cross-node attention over the edges of a graph: one function, its backends behind it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from fimp.errors import FIMPError
from fimp.ops import _chunked, _reference, _triton

Aggregation = Literal["mean", "sum"]
_BACKENDS = {"reference": _reference.weighted_sum, "chunked": _chunked.weighted_sum}


def edge_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    *,
    key_mask: Tensor | None = None,
    edge_weight: Tensor | None = None,
    aggr: str = "mean",
    scale: float | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    r"""Attend from every destination node to each of its sources, and aggregate over the sources.

    .. math::
        \mathrm{out}_{i,h,t} = \sum_{e:\,dst(e)=i} w_e \sum_s
        \mathrm{softmax}_s\!\left(\mathrm{scale}\; q_{i,h,t} \cdot k_{src(e),h,s}\right) v_{src(e),h,s}

    The softmax runs over the tokens of *one* source node (equations 6 and 7 of arXiv 2210.09475),
    never over the neighbourhood. Gradients are exact with every backend; ``chunked`` and ``triton``
    recompute their scores in the backward pass, so that neither pass holds more than a bounded chunk
    of edges (they cannot be differentiated twice; ``reference`` can).

    Parameters
    ----------
    query
        Projected tokens of the destinations, ``[N_dst, H, T, d]``.
    key, value
        Projected tokens of the sources, ``[N_src, H, S, d]`` and ``[N_src, H, S, d_v]``.
    edge_index
        ``[2, E]`` integers, source in row 0 and destination in row 1. Repeated edges count as often as
        they stand.
    key_mask
        ``[N_src, S]`` boolean, True = real token. A source without any real token sends nothing and
        does not count in the mean.
    edge_weight
        ``[E]`` weights of the messages in the aggregation, 1 by default.
    aggr
        ``"mean"`` divides by the sum of the weights of the in-edges that send something,
        ``"sum"`` does not.
    scale
        Factor of the scores, :math:`1/\sqrt{d}` by default.
    dropout
        Probability of dropping an attention weight; it is applied whenever it is above zero, so
        pass 0 in evaluation.
    backend
        ``"reference"`` (all edges at once), ``"chunked"`` (bounded memory), ``"triton"`` (nothing per edge
        but two numbers per query and head; a GPU and the package triton) or ``"auto"``: ``"triton"`` where it
        can run on a GPU, ``"chunked"`` elsewhere.

    Returns
    -------
    Tensor
        ``[N_dst, H, T, d_v]``. Zero for a node that receives nothing.

    Raises
    ------
    FIMPError
        If shapes, types or options do not fit together, ``edge_index`` points outside the nodes, or the
        backend cannot run here.
    """
    _check(query, key, value, edge_index, key_mask, edge_weight)
    if aggr not in ("mean", "sum"):
        raise FIMPError(f"edge_attention: aggr={aggr!r} is unknown; use 'mean' or 'sum'")
    if not 0.0 <= dropout < 1.0:
        raise FIMPError(f"edge_attention: dropout={dropout} is outside [0, 1)")
    if backend not in ("auto", "triton", *_BACKENDS):
        raise FIMPError(f"edge_attention: backend={backend!r} is unknown; use auto, {', '.join(_BACKENDS)}, triton")
    if torch.is_autocast_enabled(query.device.type):
        # Said here, since the backward pass runs outside of autocasting and takes types as they are.
        kind = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    src, dst = edge_index[0], edge_index[1]
    scale = 1.0 / math.sqrt(query.size(-1)) if scale is None else scale
    if key_mask is not None and bool(key_mask.all()):
        key_mask = None
    if backend == "triton" or (backend == "auto" and query.is_cuda and not _triton.obstacle(query, key, value)):
        share = _share(edge_index, query, key_mask, key.size(0), edge_weight, aggr)
        return _triton.weighted_sum(query, key, value, src, dst, key_mask, share, scale, dropout)
    if key_mask is not None:
        # Weight zero does not silence a NaN or infinity: what is masked must not enter a product.
        hidden = ~key_mask[:, None, :, None]
        key, value = key.masked_fill(hidden, 0.0), value.masked_fill(hidden, 0.0)
    weight = None if edge_weight is None else edge_weight.to(query.dtype)
    weighted_sum = _BACKENDS["chunked" if backend == "auto" else backend]
    out = weighted_sum(query, key, value, src, dst, key_mask, weight, scale, dropout)
    if aggr == "sum":
        return out
    total = message_weight(edge_index, query.size(0), key_mask, edge_weight, dtype=query.dtype)
    return out * safe_reciprocal(total)[:, None, None, None]


def _share(
    edge_index: Tensor,
    query: Tensor,
    key_mask: Tensor | None,
    num_src: int,
    edge_weight: Tensor | None,
    aggr: str,
) -> Tensor:
    """What a message is multiplied by before all are summed, ``[E]``: a mean this way costs no pass over the output."""
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    sends = torch.ones(num_src, dtype=torch.bool, device=query.device) if key_mask is None else key_mask.any(-1)
    # Indexing by both ends also asserts their range on a GPU, which the kernels do not.
    share = sends[edge_index[0]].to(dtype)
    if edge_weight is not None:
        share = share * edge_weight.to(dtype)
    divisor = torch.ones(query.size(0), dtype=dtype, device=query.device)
    if aggr == "mean":
        # Unlike index_add, this sums in the same order every time on a GPU.
        divisor = torch.zeros_like(divisor).index_put((edge_index[1],), share, accumulate=True)
    return share * safe_reciprocal(divisor)[edge_index[1]]


def message_weight(
    edge_index: Tensor,
    num_dst: int,
    key_mask: Tensor | None = None,
    edge_weight: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Summed weight of the in-edges that send something, ``[N_dst]``.

    This is what ``aggr="mean"`` of :func:`edge_attention` divides by: the in-degree when there are no
    weights and every source has a real token.

    Parameters
    ----------
    edge_index
        ``[2, E]``, source in row 0 and destination in row 1.
    num_dst
        Number of destinations, N_dst.
    key_mask
        ``[N_src, S]`` boolean, True = real token.
    edge_weight
        ``[E]``, 1 by default.
    dtype
        Type of the sums.
    """
    src, dst = edge_index[0], edge_index[1]
    if edge_weight is None:
        weight = torch.ones(src.numel(), dtype=dtype, device=edge_index.device)
    else:
        weight = edge_weight.to(dtype)
    if key_mask is not None:
        weight = weight * key_mask.any(-1)[src]
    return weight.new_zeros(num_dst).index_add(0, dst, weight)


def edge_attention_weights(
    query: Tensor,
    key: Tensor,
    edge_index: Tensor,
    *,
    key_mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention of a chosen set of edges, ``[E, H, T, S]``, for analysis (softmax of equation 7, arXiv 2210.09475).

    Arguments as in :func:`edge_attention`. Rows sum to one over the real tokens of the source, or to
    zero where the source has none. The result is held whole: pass the edges in portions.

    Raises
    ------
    FIMPError
        As :func:`edge_attention`.
    """
    _check(query, key, key, edge_index, key_mask, None)
    scale = 1.0 / math.sqrt(query.size(-1)) if scale is None else scale
    src, dst = edge_index[0], edge_index[1]
    mask = None if key_mask is None else key_mask[src]
    if key_mask is not None:
        key = key.masked_fill(~key_mask[:, None, :, None], 0.0)
    return _reference.attention_probabilities(query[dst], key[src], mask, scale)


def safe_reciprocal(total: Tensor) -> Tensor:
    """One over every element of ``total``, of any shape; zero where it is zero."""
    empty = total == 0
    return total.masked_fill(empty, 1.0).reciprocal().masked_fill(empty, 0.0)


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_index: Tensor,
    key_mask: Tensor | None,
    edge_weight: Tensor | None,
) -> None:
    def fail(name: str, found: object, wanted: str) -> None:
        raise FIMPError(f"edge_attention: {name} has {found}, wanted {wanted}")

    if query.dim() != 4:
        fail("query", f"shape {list(query.shape)}", "[N_dst, H, T, d]")
    if key.dim() != 4 or key.size(1) != query.size(1) or key.size(3) != query.size(3):
        fail("key", f"shape {list(key.shape)}", f"[N_src, {query.size(1)}, S, {query.size(3)}]")
    if value.dim() != 4 or value.shape[:3] != key.shape[:3]:
        fail("value", f"shape {list(value.shape)}", f"{[*key.shape[:3]]} and a head size")
    check_edges("edge_attention", edge_index, key.size(0), query.size(0), edge_weight)
    if key_mask is not None and (key_mask.shape != (key.size(0), key.size(2)) or key_mask.dtype != torch.bool):
        fail("key_mask", f"{list(key_mask.shape)} {key_mask.dtype}", f"{[key.size(0), key.size(2)]} bool")


def check_edges(caller: str, edge_index: Tensor, num_src: int, num_dst: int, edge_weight: Tensor | None) -> None:
    """Raise a :class:`FIMPError` that names ``caller`` unless edges and weights fit the numbers of nodes.

    Parameters
    ----------
    caller
        Name for the message.
    edge_index
        ``[2, E]`` integers; on a CPU their range is looked at, too.
    num_src, num_dst
        Numbers of sources and of destinations.
    edge_weight
        ``[E]``, or None.
    """

    def fail(name: str, found: object, wanted: str) -> None:
        raise FIMPError(f"{caller}: {name} has {found}, wanted {wanted}")

    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        fail("edge_index", f"shape {list(edge_index.shape)}", "[2, E]")
    if edge_index.dtype not in (torch.int64, torch.int32):
        fail("edge_index", f"type {edge_index.dtype}", "integers")
    for row, (name, size) in enumerate((("source", num_src), ("destination", num_dst))):
        index = edge_index[row]
        # Reading indices back from a GPU would stall it; its own kernels assert their range.
        if index.device.type == "cpu" and index.numel() and (int(index.min()) < 0 or int(index.max()) >= size):
            fail("edge_index", f"{name} indices {int(index.min())}..{int(index.max())}", f"0..{size - 1}")
    if edge_weight is not None and edge_weight.shape != (edge_index.size(1),):
        fail("edge_weight", f"shape {list(edge_weight.shape)}", f"[{edge_index.size(1)}]")
