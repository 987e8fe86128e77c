import numpy as np

from fimp.analysis.confusion import confusion_figure


def test_rows_are_shares_of_the_true_class():
    truth, predicted = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 2, 2, 2])
    axis = confusion_figure(truth, predicted, ["a", "never", "c"]).axes[0]
    np.testing.assert_allclose(axis.images[0].get_array(), [[0.75, 0.25], [0.0, 1.0]])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a (4)", "c (2)"]


def test_of_many_classes_the_most_frequent_are_shown_and_the_others_together():
    truth = np.repeat(np.arange(20), np.arange(1, 21))
    predicted = truth.copy()
    predicted[-1] = 0
    axis = confusion_figure(truth, predicted, [f"class {k}" for k in range(20)]).axes[0]
    share = axis.images[0].get_array()
    assert share.shape == (12, 13)
    np.testing.assert_allclose(share.sum(1), 1.0)
    np.testing.assert_allclose(share[-1, -1], 1 / 20)
    assert axis.get_xticklabels()[-1].get_text() == "others"
