"""Random numbers that are a function of what they are for, not of when they are drawn.

Which tokens a cell shows in an epoch depends on (seed, epoch, cell, gene) and on nothing else: not on the
batch the cell is in, not on the order of batches, not on what was drawn before. A run can therefore be
resumed, and evaluated with any batch size, to the same numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_uniform(*keys: ArrayLike) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one per combination of integer keys (arrays broadcast).

    SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195) chained over the keys.
    """
    state: NDArray[np.uint64] = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            z = (state ^ np.asarray(key).astype(np.uint64)) + _GOLDEN
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = z ^ (z >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
