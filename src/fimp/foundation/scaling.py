"""``scaling.json`` beside a model of recordings: how the signals were prepared that it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fimp.data.scaling import RobustScale
from fimp.errors import FIMPError
from fimp.foundation.folders import write_json
from fimp.foundation.hf import read_json

SCALING_FILE = "scaling.json"


def write_scaling(folder: Path, scale: RobustScale) -> None:
    """Write a scale into the folder of a model."""
    content = {"detrend": scale.detrend, "median": scale.median.tolist(), "iqr": scale.iqr.tolist()}
    write_json(folder / SCALING_FILE, {**content, "flat": scale.flat.tolist()})


def read_scaling(folder: Path) -> RobustScale | None:
    """The scale in the folder of a model; None where there is none, as with published checkpoints.

    Raises
    ------
    FIMPError
        If the file cannot be read, or does not hold what :func:`write_scaling` writes.
    """
    path = folder / SCALING_FILE
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        median, iqr = (np.array(content[name], dtype=np.float64) for name in ("median", "iqr"))
        flat = np.array(content["flat"], dtype=bool)
        fits = median.ndim == 1 and median.shape == iqr.shape == flat.shape and type(content["detrend"]) is bool
        fits = fits and bool(np.isfinite(median).all() and np.isfinite(iqr).all() and (iqr > 0).all())
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise FIMPError(
            f"{path}: wanted detrend and, for every region, a median, an iqr above 0 and flat; fetch it again"
        )
    return RobustScale(median, iqr, content["detrend"], flat)
