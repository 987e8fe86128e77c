import numpy as np

from fimp.analysis.image_examples import image_examples


def test_right_and_wrong_are_told_in_words():
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3)).astype(np.uint8)
    figure = image_examples(images, ["a", "b", "a", "b", "x" * 40], ["a", "a", "a", "b", "b"])
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 5
    np.testing.assert_array_equal(shown[1].images[0].get_array(), images[1])
    titles = [axis.get_title() or axis.get_title("left") for axis in shown]
    assert titles[:2] == ["✓ a", "✗ a\nis b"]
    assert len(titles[4]) < 30
