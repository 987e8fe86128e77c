import numpy as np

from fimp.analysis.classes import Classes
from fimp.analysis.node_embedding import node_embedding


def test_colours_show_classes_or_values_or_nothing():
    points = np.random.default_rng(0).normal(size=(30, 5))
    labels = np.arange(30) % 3
    figure, how = node_embedding(points, classes=(labels, Classes.of(labels, ["a", "b", "c"])))
    assert len({tuple(colour) for colour in figure.axes[0].collections[0].get_facecolors()}) == 3
    assert len(figure.legends[0].get_texts()) == 3
    assert how in (figure.axes[0].get_title(), figure.axes[0].get_title("left"))
    figure, _ = node_embedding(points, values=(np.arange(30.0), "a number"))
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), np.arange(30.0))
    assert figure.axes[1].get_ylabel() == "a number"
    assert len(node_embedding(points)[0].axes) == 1
