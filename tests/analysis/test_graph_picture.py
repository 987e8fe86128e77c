import numpy as np
import pytest
from matplotlib.colors import to_hex

from fimp.analysis.classes import Classes
from fimp.analysis.graph_picture import CLOSE, MOST, graph_picture
from fimp.analysis.layout import Layout


def ring(count):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    nodes = np.arange(count)
    edges = np.stack([np.append(nodes, np.roll(nodes, 1)), np.append(np.roll(nodes, 1), nodes)])
    return Layout(nodes, np.stack([np.cos(angle), np.sin(angle)], 1), edges, count, "a ring")


def test_a_small_graph_is_drawn_whole_with_a_line_for_both_directions():
    figure, caption = graph_picture(ring(30))
    lines, dots = figure.axes[0].collections
    assert len(lines.get_segments()) == 30
    assert len(dots.get_offsets()) == 30
    assert caption == "All 30 nodes and 60 edges between them: a ring."


@pytest.mark.parametrize("count", [1000, MOST + 500])
def test_a_large_graph_is_drawn_without_edges_beside_a_part_with_edges(count):
    figure, caption = graph_picture(ring(count))
    left, right = figure.axes
    assert len(left.collections[0].get_offsets()) == min(count, MOST)
    assert len(right.collections[1].get_offsets()) == CLOSE
    assert ("a random 8,000 are drawn" in caption) == (count > MOST)
    assert f"{CLOSE} neighbouring nodes" in caption


def test_colours_show_classes():
    labels = np.arange(30) % 2
    figure, _ = graph_picture(ring(30), labels, Classes.of(labels, ["a", "b"]))
    dots = figure.axes[0].collections[1]
    assert len({to_hex(colour) for colour in dots.get_facecolors()}) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
