import importlib.util

import numpy as np
import pytest
from matplotlib.image import imread

from fimp.analysis.brain import region_figure


@pytest.mark.skipif(importlib.util.find_spec("nilearn") is not None, reason="nilearn draws instead")
@pytest.mark.parametrize("signed", [False, True])
def test_pairs_are_drawn_where_regions_are(tmp_path, signed):
    rng = np.random.default_rng(0)
    xyz, values = rng.normal(size=(12, 3)) * 40, np.full((12, 12), np.nan)
    region_figure(values, xyz, "nothing", tmp_path / "nothing.png", signed)
    values[3, 7] = 0.4
    region_figure(values, xyz, "nothing", tmp_path / "pair.png", signed)
    nothing, pair = imread(tmp_path / "nothing.png"), imread(tmp_path / "pair.png")
    assert pair.shape == nothing.shape
    assert not np.array_equal(pair, nothing)
