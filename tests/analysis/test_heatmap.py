import numpy as np
from matplotlib.image import imread

from fimp.analysis import TokenAttention
from fimp.analysis.contrast import Contrast
from fimp.analysis.heatmap import _order, _shown, attention_figure, contrast_figure


def attention(rows, columns, seed=0):
    mean = np.random.default_rng(seed).random((rows, columns))
    mean[0, 1] = np.nan
    names = [f"gene {index}" for index in range(max(rows, columns))]
    return TokenAttention(mean, np.isfinite(mean).astype(int), names[:rows], names[:columns])


def test_similar_rows_are_neighbours():
    block = np.repeat([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], 4, axis=0)
    shuffled = np.random.default_rng(0).permutation(12)
    order = shuffled[_order(block[shuffled])] // 4
    assert (np.diff(order) != 0).sum() == 2


def test_of_many_tokens_those_of_strong_pairs_are_drawn():
    found = attention(60, 60)
    found.mean[50, 51] = 40.0
    rows, columns = _shown(np.where(found.same, np.nan, found.specific()), found)
    assert len(rows) == len(columns) == 48
    assert np.array_equal(rows, columns)
    assert {50, 51} <= set(rows.tolist())


def test_more_tokens_make_a_larger_figure(tmp_path):
    attention_figure(attention(6, 6), tmp_path / "small.png")
    attention_figure(attention(30, 30), tmp_path / "large.png")
    attention_figure(attention(1, 20), tmp_path / "row.png")
    small, large = imread(tmp_path / "small.png"), imread(tmp_path / "large.png")
    assert large.shape[0] > 1.5 * small.shape[0]
    assert large[..., :3].std() > 0.05


def test_discoveries_are_marked(tmp_path):
    found = attention(8, 8)
    q = np.ones((8, 8))
    parts = found.mean, found.mean * 0.5, found.mean * 0.5, q
    contrast_figure(Contrast(("a", "b"), *parts, q.copy(), "note"), found, tmp_path / "none.png")
    q[2, 3] = 0.01
    contrast_figure(Contrast(("a", "b"), *parts, q, "note"), found, tmp_path / "one.png")
    assert not np.array_equal(imread(tmp_path / "none.png"), imread(tmp_path / "one.png"))
