"""Layers over all nodes of a large graph, one layer after the other, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from fimp.data.memory import free_memory, parse_bytes
from fimp.errors import FIMPError
from fimp.ops.attention import check_edges
from fimp.tokenizers.base import Tokens
from fimp.train.inference.blocks import locality_order
from fimp.train.inference.partition import Partition
from fimp.train.inference.passes import Passes
from fimp.train.inference.rows import RowStore


def layerwise_inference(
    layers: Sequence[nn.Module],
    tokens: Tokens | Callable[[NDArray[np.int64]], Tokens],
    edge_index: Tensor,
    num_nodes: int | None = None,
    *,
    edge_weight: Tensor | None = None,
    positions: Tensor | None = None,
    readout: Callable[[Tensor, Tensor], Tensor] | None = None,
    memory_budget: int | str | None = None,
    folder: str | Path | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Run a stack of layers over all nodes of a graph, in evaluation mode and without gradients.

    Equal to ``h = layer(h)`` on the whole graph up to float rounding, in time and disk space that grow with nodes and
    edges alone: unlike sampling, no node is computed more than once per layer, and none of its neighbours is left out.

    Parameters
    ----------
    layers
        :class:`fimp.nn.FIMPLayer`, :class:`fimp.nn.FIMPConv` or others with their methods ``tell`` and ``hear``; every
        layer gives tokens of the shape it takes.
    tokens
        Tokens of all nodes, ``h [N, T, D]`` and ``mask [N, T]``; or a function that gives those of some nodes
        ``[n]``, called once for each node, so that the tokens of all need not be held.
    edge_index
        ``[2, E]``, source in row 0.
    num_nodes
        N; needed where ``tokens`` is a function.
    edge_weight
        ``[E]`` weights in the aggregation.
    positions
        Coordinates ``[N, dimensions]`` of nodes whose edges are short: they find blocks with few neighbours outside.
    readout
        Makes ``[n, ...]`` of the last layer's tokens and mask, :func:`fimp.nn.mean_tokens` for instance, so that
        the tokens of all nodes need not be returned.
    memory_budget
        Bytes, or a text such as ``"4GiB"``, for token states and for all that is computed on the way: what the process
        holds more than before, without arguments and result. Half of the free memory by default. Token states
        that do not fit are in a file.
    folder
        Where that file goes; the system's folder for temporary files by default. It is gone with the call, and with the
        process.
    group
        Processes that share the nodes out among themselves, each with the same arguments; they get the same result.
        Every process has a budget of its own.

    Returns
    -------
    Tensor
        ``[N, T, D]``, or what ``readout`` makes of it.

    Raises
    ------
    FIMPError
        If arguments do not fit, memory or disk do not suffice, or a layer cannot be run in this way.

    Examples
    --------
    >>> import torch
    >>> from fimp.nn import FIMPLayer, mean_tokens
    >>> from fimp.tokenizers import Tokens
    >>> from fimp.train import layerwise_inference
    >>> tokens = Tokens(torch.randn(5, 3, 8), torch.ones(5, 3, dtype=torch.bool))
    >>> edge_index = torch.tensor([[1, 2, 3, 4], [0, 1, 2, 3]])
    >>> layerwise_inference([FIMPLayer(8, 2), FIMPLayer(8, 2)], tokens, edge_index, readout=mean_tokens).shape
    torch.Size([5, 8])
    """
    out: Tensor | None = None
    blocks = layerwise_blocks(
        layers,
        tokens,
        edge_index,
        num_nodes,
        edge_weight=edge_weight,
        positions=positions,
        memory_budget=memory_budget,
        folder=folder,
        group=group,
    )
    for nodes, (h, mask) in blocks:
        made = h if readout is None else readout(h, mask)
        if out is None:
            out = made.new_zeros(_count(tokens, num_nodes), *made.shape[1:])
        out[torch.from_numpy(nodes)] = made
    assert out is not None
    if group is not None:
        dist.all_reduce(out, group=group)
    return out


@torch.no_grad()
def layerwise_blocks(
    layers: Sequence[nn.Module],
    tokens: Tokens | Callable[[NDArray[np.int64]], Tokens],
    edge_index: Tensor,
    num_nodes: int | None = None,
    *,
    edge_weight: Tensor | None = None,
    positions: Tensor | None = None,
    memory_budget: int | str | None = None,
    folder: str | Path | None = None,
    group: dist.ProcessGroup | None = None,
) -> Iterator[tuple[NDArray[np.int64], Tokens]]:
    """As :func:`layerwise_inference`, block by block: nodes ``[n]`` and their tokens ``[n, T, D]``.

    Of several processes, each gets the nodes that it computes.

    Parameters are those of :func:`layerwise_inference`.

    Raises
    ------
    FIMPError
        As :func:`layerwise_inference`.
    """
    if not layers:
        raise FIMPError("layers: there is none, wanted at least one")
    count = _count(tokens, num_nodes)
    if count < 1:
        raise FIMPError("tokens: those of no node, wanted at least one")
    check_edges("layerwise_inference", edge_index, count, count, edge_weight)
    budget = max(1, free_memory() // 2) if memory_budget is None else parse_bytes(memory_budget)
    place = Path(tempfile.gettempdir() if folder is None else folder)
    training = [layer.training for layer in layers]
    for layer in layers:
        layer.eval()
    try:
        part = Partition(edge_index, locality_order(edge_index, count, positions), edge_weight, group)
        give = _taker(tokens) if isinstance(tokens, Tokens) else tokens
        with RowStore(place) as store:
            yield from Passes(layers, give, part, budget, store).blocks()
    finally:
        for layer, mode in zip(layers, training, strict=True):
            layer.train(mode)


def _count(tokens: Tokens | Callable[[NDArray[np.int64]], Tokens], num_nodes: int | None) -> int:
    """N, if it is known."""
    if isinstance(tokens, Tokens):
        return len(tokens.h)
    if not callable(tokens):
        raise FIMPError(f"tokens: got {type(tokens).__name__}, wanted Tokens(h, mask) or a function of nodes")
    if num_nodes is None:
        raise FIMPError("num_nodes: None, wanted the number of nodes, since tokens is a function")
    return num_nodes


def _taker(tokens: Tokens) -> Callable[[NDArray[np.int64]], Tokens]:
    """The function that gives the tokens of some nodes."""

    def take(nodes: NDArray[np.int64]) -> Tokens:
        rows = torch.from_numpy(nodes).to(tokens.h.device)
        return Tokens(tokens.h[rows], tokens.mask[rows])

    return take
