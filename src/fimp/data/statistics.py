"""What training cells say of genes: mean, spread, and how far neighbours agree."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from fimp.data.disk_matrix import Values, row_blocks
from fimp.data.masking import TokenSampler, zero_tokens

#: Cells that are enough to measure how depths are spread.
_CELLS = 4096
#: Edges that are enough to measure how far neighbours agree.
_EDGES = 65_536


def gene_statistics(
    values: Values, tokens: int, zeros: float, cells: NDArray[np.int64] | None = None
) -> tuple[Tensor, Tensor, float]:
    """Mean and deviation of each gene among the tokens that training draws.

    Parameters
    ----------
    values
        Values ``[N, G]``; of one on disk, some cells are held at a time.
    tokens, zeros
        Most tokens per cell, and the share of them drawn from genes that a cell does not express. Each token
        counts with its probability of being drawn.
    cells
        Training cells ``[n]``; all by default.

    Returns
    -------
    tuple
        Means ``[G]``, deviations ``[G]`` and the deviation over all genes. Genes that are seen rarely
        are drawn towards all genes together.
    """
    genes, absent = values.shape[1], zero_tokens(tokens, zeros)
    expressed = np.diff(values.indptr).astype(np.float64)
    expressed = expressed if cells is None else expressed[cells]
    chance = np.minimum(1.0, (tokens - absent) / np.maximum(expressed, 1))
    zero_chance = np.minimum(1.0, absent / np.maximum(genes - expressed, 1))
    weight, of_zero, value_sum, value_total = np.zeros(genes), np.full(genes, zero_chance.sum()), np.zeros(genes), 0.0
    for rows, block in row_blocks(values, cells):
        of_entry, value = _spread_out(chance[rows], block), block.data.astype(np.float64)
        weight += np.bincount(block.indices, of_entry, minlength=genes)
        # A zero token has the value 0: it adds weight and nothing else.
        of_zero -= np.bincount(block.indices, _spread_out(zero_chance[rows], block), minlength=genes)
        value_sum += np.bincount(block.indices, of_entry * value, minlength=genes)
        value_total += float((of_entry * value).sum())
    weight += of_zero
    all_weight = max(float(weight.sum()), 1e-12)
    mean = (value_sum + value_total / all_weight) / (weight + 1.0)
    spread = np.zeros(genes)
    for rows, block in row_blocks(values, cells):
        off = block.data.astype(np.float64) - mean[block.indices]
        spread += np.bincount(block.indices, _spread_out(chance[rows], block) * off**2, minlength=genes)
    spread += of_zero * mean**2
    variance = max(float(spread.sum() / all_weight), 1e-6)
    deviation = np.sqrt((spread + 5.0 * variance) / (weight + 5.0))
    as_tensor = [torch.from_numpy(array.astype(np.float32)) for array in (mean, deviation)]
    return as_tensor[0], as_tensor[1], variance**0.5


def _spread_out(of_cell: NDArray[np.float64], rows: sparse.csr_matrix) -> NDArray[np.float64]:
    """A number of each cell ``[n]``, for each of its entries."""
    return np.repeat(of_cell, np.diff(rows.indptr))


def neighbor_agreement(
    values: Values, edge_index: Tensor, nodes: NDArray[np.int64], mean: Tensor, deviation: Tensor
) -> float:
    """Correlation of neighbours' values, over the genes that both express and edges between some cells.

    Of very many edges every n-th is looked at. About 0 where a neighbour tells nothing of a cell, 1 where expression
    does not change from one to the other.

    Parameters
    ----------
    values
        Values of all cells ``[N, G]``.
    edge_index
        ``[2, E]``.
    nodes
        The cells whose values may be looked at.
    mean, deviation
        Mean and standard deviation of each gene, ``[G]``.

    Returns
    -------
    float
        In [-1, 1]; 0 if no two of the cells are neighbours.
    """
    allowed = np.zeros(values.shape[0], dtype=bool)
    allowed[nodes] = True
    src, dst = edge_index.numpy()
    edges = np.flatnonzero(allowed[src] & allowed[dst] & (src != dst))
    edges = edges[:: -(-len(edges) // _EDGES) or 1]
    centre, unit = mean.numpy(), deviation.numpy()

    def standardised(cells: NDArray[np.int64]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        rows = values[cells].astype(np.float64)
        expressed = rows.copy()
        expressed.data[:] = 1.0
        rows.data = (rows.data - centre[rows.indices]) / unit[rows.indices]
        return rows, expressed

    total = np.zeros(3)
    # In parts, since there is a row per edge.
    for start in range(0, len(edges), 4096):
        part = edges[start : start + 4096]
        (a, in_a), (b, in_b) = standardised(src[part]), standardised(dst[part])
        total += [a.multiply(b).sum(), a.power(2).multiply(in_b).sum(), b.power(2).multiply(in_a).sum()]
    return float(total[0] / np.sqrt(total[1] * total[2])) if total[1] * total[2] > 0 else 0.0


def depth_statistics(sampler: TokenSampler, cells: NDArray[np.int64], hide: bool = True) -> tuple[float, float] | None:
    """Mean and standard deviation of the depth of some cells, as they show it (:attr:`fimp.data.CellTokens.depth`).

    Parameters
    ----------
    sampler
        What draws the cells' tokens.
    cells
        Training cells ``[n]``; of very many every n-th is looked at.
    hide
        Whether a share of their values is hidden.

    Returns
    -------
    tuple or None
        None where depths are unknown, or all alike.
    """
    few = cells[:: -(-len(cells) // _CELLS) or 1]
    depth = sampler.draw(few, hide=hide).depth.double()
    depth = depth[depth.isfinite()]
    spread = float(depth.std(correction=0)) if len(depth) else 0.0
    return (float(depth.mean()), spread) if spread > 1e-6 else None
