"""Mean and spread of genes, as training sees them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from fimp.data.masking import zero_tokens


def gene_statistics(values: sparse.csr_matrix, tokens: int, zeros: float) -> tuple[Tensor, Tensor, float]:
    """Mean and deviation of each gene among the tokens that training draws.

    Parameters
    ----------
    values
        Values of the training cells, CSR ``[n, G]``.
    tokens, zeros
        Most tokens per cell, and the share of them drawn from genes that a cell does not express. Each token
        counts with its probability of being drawn.

    Returns
    -------
    tuple
        Means ``[G]``, deviations ``[G]`` and the deviation over all genes. Genes that are seen rarely
        are drawn towards all genes together.
    """
    genes = values.shape[1]
    expressed = np.diff(values.indptr).astype(np.float64)
    absent = zero_tokens(tokens, zeros)
    chance = np.minimum(1.0, (tokens - absent) / np.maximum(expressed, 1))
    zero_chance = np.minimum(1.0, absent / np.maximum(genes - expressed, 1))
    of_entry, gene, value = np.repeat(chance, expressed.astype(int)), values.indices, values.data.astype(np.float64)

    def total(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(gene, weights=weights, minlength=genes).astype(np.float64)

    # A zero token has the value 0: it adds weight and nothing else.
    of_zero = zero_chance.sum() - total(np.repeat(zero_chance, expressed.astype(int)))
    weight = total(of_entry) + of_zero
    all_weight = max(float(weight.sum()), 1e-12)
    overall = float((of_entry * value).sum() / all_weight)
    mean = (total(of_entry * value) + overall) / (weight + 1.0)
    spread = total(of_entry * (value - mean[gene]) ** 2) + of_zero * mean**2
    variance = max(float(spread.sum() / all_weight), 1e-6)
    deviation = np.sqrt((spread + 5.0 * variance) / (weight + 5.0))
    as_tensor = [torch.from_numpy(array.astype(np.float32)) for array in (mean, deviation)]
    return as_tensor[0], as_tensor[1], variance**0.5
