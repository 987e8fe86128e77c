import numpy as np
from matplotlib.figure import Figure

from fimp.analysis.classes import Classes, legend_below
from fimp.analysis.style import PALETTE, REST


def test_frequent_classes_have_colours_and_the_others_share_one():
    labels = np.repeat(np.arange(9), np.arange(1, 10))
    classes = Classes.of(np.append(labels, -1), [f"c{k}" for k in range(10)])
    assert classes.common == [8, 7, 6, 5, 4, 3]
    assert classes.legend == [*((f"c{k}", PALETTE[8 - k]) for k in (8, 7, 6, 5, 4, 3)), ("3 other classes", REST)]
    assert classes.colours(np.array([8, 3, 0, 9, -1])).tolist() == [PALETTE[0], PALETTE[5], REST, REST, REST]


def test_few_classes_have_no_rest():
    classes = Classes.of(np.array([1, 1, 0]), ["a", "b", "never"])
    assert classes.legend == [("b", PALETTE[0]), ("a", PALETTE[1])]


def test_long_names_are_shortened_and_no_entry_gives_no_legend():
    figure = Figure()
    legend_below(figure, [])
    assert not figure.legends
    legend_below(figure, [("x" * 100, "#000000")])
    assert len(figure.legends[0].get_texts()[0].get_text()) == 28
