import numpy as np

from fimp.analysis.class_maps import class_maps
from fimp.analysis.classes import Classes
from fimp.analysis.style import PALETTE


def test_truth_and_prediction_have_the_same_colours_and_errors_are_counted():
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    xy = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    figure = class_maps(truth, predicted, xy, Classes.of(truth, ["a", "b"]))
    left, middle, right = figure.axes
    one, other = left.collections[0].get_facecolors(), middle.collections[0].get_facecolors()
    assert np.array_equal(one[[0, 2, 3]], other[[0, 2, 3]])
    assert not np.array_equal(one[1], other[1])
    assert right.get_title("left") == "wrong: 25%" or right.get_title() == "wrong: 25%"
    assert right.collections[1].get_offsets().tolist() == [[1.0, 0.0]]
    assert PALETTE[0] != PALETTE[1]
