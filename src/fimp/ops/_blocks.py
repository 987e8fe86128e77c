"""Edges as equally wide blocks: nodes of one side, each with all of its edges."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """B nodes of one side and the nodes that each of them has edges with, padded to one number.

    Either n (sources of each destination) or m (destinations of each source) is one. Padding stands one behind the
    last: node ``N_src`` or ``N_dst``, edge ``E``.

    Attributes
    ----------
    src
        Sources, ``[B, n]``.
    dst
        Destinations, ``[B, m]``.
    edge
        Which edge joins them, ``[B, n * m]``.
    """

    src: Tensor
    dst: Tensor
    edge: Tensor


def blocks(edge_index: Tensor, num_src: int, num_dst: int, chunk: int) -> tuple[bool, list[Block]]:
    """Split edges into blocks of at most ``chunk`` edges; a node with more edges comes in several blocks.

    They are gathered around the side that has fewer nodes with edges, since every such node takes part in one matrix
    product with all tokens that it is joined with: fewer nodes make larger products. Sources come first among equals,
    because queries are half of what keys and values are.

    Parameters
    ----------
    edge_index
        ``[2, E]``, source in row 0.
    num_src, num_dst
        Number of nodes of either side.
    chunk
        Edges per block, padding included, at least 1.

    Returns
    -------
    by_source
        Whether sources stand in the middle of blocks.
    blocks
        Every edge is in one of them.
    """
    src, dst = edge_index
    if src.numel() == 0:
        return True, []
    by_source = _distinct(src, num_src) <= _distinct(dst, num_dst)
    centre, other, none = (src, dst, num_dst) if by_source else (dst, src, num_src)
    edges = centre.numel()
    order = centre.argsort(stable=True)
    # One more, so that padding finds something.
    other, padded = torch.cat([other, other.new_full((1,), none)]), torch.cat([order, order.new_full((1,), edges)])
    out = []
    for places, start in _rows(centre[order], chunk):
        edge = padded[places]
        around = other[edge]
        middle = centre[order[start], None]
        out.append(Block(middle, around, edge) if by_source else Block(around, middle, edge))
    return by_source, out


def _distinct(nodes: Tensor, count: int) -> int:
    """How many of ``count`` nodes are named."""
    return int(torch.zeros(count, dtype=torch.bool, device=nodes.device).index_fill_(0, nodes, True).sum())


def _rows(ordered: Tensor, chunk: int) -> list[tuple[Tensor, Tensor]]:
    """Places of equal values of a sorted vector, rows ``[B, width]`` of at most ``chunk``, and first places ``[B]``."""
    edges, device = ordered.numel(), ordered.device
    position = torch.arange(edges, device=device)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    within = position - position.masked_fill(~fresh, 0).cummax(0).values
    start = ((within % chunk) == 0).nonzero().flatten()
    size = torch.diff(start, append=torch.full_like(start[:1], edges))
    # Nodes of similar degree go together, so that little is padded.
    size, rank = size.sort(descending=True, stable=True)
    start = start[rank]
    sizes, first, out = size.tolist(), 0, []
    while first < len(sizes):
        width = sizes[first]
        rows = slice(first, first + max(1, chunk // width))
        steps = torch.arange(width, device=device)
        places = (start[rows, None] + steps).masked_fill(steps >= size[rows, None], edges)
        out.append((places, start[rows]))
        first = rows.stop
    return out
