import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from fimp.analysis import brain
from fimp.analysis.brain import region_figure


@pytest.fixture(params=["plain", "nilearn"])
def drawn_by(request, monkeypatch):
    """With nilearn, where it is, and as if it were not there."""
    if request.param == "nilearn":
        pytest.importorskip("nilearn")
    else:
        monkeypatch.setattr(brain, "find_spec", lambda name: None)
    return request.param


def spread(share=1.0):
    return np.random.default_rng(0).normal(size=(12, 3)) * [45, 60, 40] * share


@pytest.mark.parametrize("signed", [False, True])
def test_pairs_are_drawn_where_regions_are(tmp_path, signed, drawn_by):
    xyz, values = spread(), np.full((12, 12), np.nan)
    region_figure(values, xyz, "nothing", tmp_path / "nothing.png", signed)
    values[3, 7] = 0.4
    region_figure(values, xyz, "nothing", tmp_path / "pair.png", signed)
    nothing, pair = imread(tmp_path / "nothing.png"), imread(tmp_path / "pair.png")
    assert pair.shape == nothing.shape
    assert not np.array_equal(pair, nothing)
    region_figure(values, spread(0.5), "nothing", tmp_path / "elsewhere.png", signed)
    assert not np.array_equal(imread(tmp_path / "elsewhere.png"), pair)


def test_regions_are_larger_the_more_is_heard_of_them(tmp_path, drawn_by):
    xyz, ink = np.array([[-40.0, 0, 0], [40, 0, 0], [0, 60, 0]]), {}
    for name, sender in (("left", 0), ("right", 1)):
        values = np.full((3, 3), 0.01)
        values[2, sender] = 0.5
        region_figure(values, xyz, "heard", tmp_path / f"{name}.png")
        dark = imread(tmp_path / f"{name}.png")[..., :3].max(-1) < 0.25
        ink[name] = dark
    # The same dots in all, the large one on the other side.
    assert not np.array_equal(ink["left"], ink["right"])
    assert ink["left"].sum() == pytest.approx(ink["right"].sum(), rel=0.05)


def test_many_values_are_drawn_too(tmp_path, drawn_by):
    values = np.random.default_rng(1).random((12, 12))
    region_figure(values - 0.5, spread(), "difference", tmp_path / "many.png", signed=True)
    assert imread(tmp_path / "many.png")[..., :3].std() > 0.05


def test_nilearn_draws_without_a_window(tmp_path):
    pytest.importorskip("nilearn")
    from matplotlib import pyplot

    backend, before = matplotlib.get_backend(), pyplot.get_fignums()
    region_figure(np.random.default_rng(0).random((12, 12)), spread(), "heard", tmp_path / "brain.png")
    # The user's figures and backend stay as they were.
    assert pyplot.get_fignums() == before
    assert matplotlib.get_backend() == backend
