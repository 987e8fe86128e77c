import numpy as np
from matplotlib.image import imread

from fimp.analysis import TokenAttention
from fimp.analysis.figures import BEST
from fimp.analysis.ranked import pairs_figure


def shade(path):
    """Share of pixels of the colour of known pairs."""
    colour = np.array([int(BEST[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return (np.abs(imread(path)[..., :3] - colour).max(-1) < 0.02).mean()


def test_known_pairs_are_in_colour(tmp_path):
    mean = np.random.default_rng(0).random((5, 5))
    names = list("abcde")
    found = TokenAttention(mean, np.ones((5, 5), int), names, names)
    pairs_figure(found, tmp_path / "plain.png")
    table = found.ranked()
    pairs_figure(found, tmp_path / "known.png", {(table["receiver"][0], table["sender"][0])})
    assert shade(tmp_path / "plain.png") == 0
    assert shade(tmp_path / "known.png") > 0


def test_a_single_row_is_drawn_by_attention(tmp_path):
    found = TokenAttention(np.array([[0.3, 0.2, 0.1]]), np.ones((1, 3), int), ["class"], list("xyz"))
    pairs_figure(found, tmp_path / "row.png")
    assert imread(tmp_path / "row.png")[..., :3].std() > 0.02
