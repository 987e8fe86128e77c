"""From many dimensions to two, to look at."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

#: Neighbours that UMAP keeps near: its own default.
_NEIGHBORS = 15


def project(points: NDArray[np.floating], seed: int = 0) -> tuple[NDArray[np.float64], str]:
    """Two-dimensional picture of points, by UMAP (McInnes et al. 2018) where it is installed, else by PCA.

    Parameters
    ----------
    points
        ``[n, D]``, finite.
    seed
        Of UMAP.

    Returns
    -------
    ndarray, str
        ``[n, 2]``, and how it was made: ``"UMAP"``, or ``"PCA"`` with the share of variance that it shows.
    """
    try:
        from umap import UMAP
    except ImportError:
        return _pca(points)
    # Of fewer points than this UMAP has no picture.
    if len(points) < 10:
        return _pca(points)
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reducer = UMAP(n_neighbors=min(_NEIGHBORS, len(points) - 1), random_state=seed, n_jobs=1)
            return np.asarray(reducer.fit_transform(points), dtype=np.float64), "UMAP"
    finally:
        # Numba sets OpenMP's number of threads for the whole process, and with it the last digits of torch.
        torch.set_num_threads(threads)


def _pca(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], str]:
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    # Of either sign of an axis, the one whose largest weight is positive: the same on every machine.
    sign = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    xy = (left * values * np.where(sign == 0, 1.0, sign))[:, :2]
    xy = np.pad(xy, ((0, 0), (0, 2 - xy.shape[1])))
    share = np.square(values[:2]).sum() / max(float(np.square(values).sum()), 1e-300)
    return xy, f"PCA, {share:.0%} of the variance"
