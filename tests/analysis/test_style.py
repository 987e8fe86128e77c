import re

import numpy as np
from matplotlib.figure import Figure

from fimp.analysis.figures import INK
from fimp.analysis.style import PALETTE, canvas, dots, map_axis, styled, to_svg


def drawn(count, mark="f", title="a"):
    with styled():
        figure = canvas(3, 3)
        axis = figure.subplots()
        xy = np.random.default_rng(0).normal(size=(count, 2))
        dots(axis, xy, c=np.arange(count))
        map_axis(axis)
        axis.set_title(title)
        return to_svg(figure, mark, "shows <this>")


def test_colours_follow_the_page_and_nothing_points_elsewhere():
    svg = drawn(20)
    assert "var(--ink)" in svg
    assert INK not in svg
    assert "http" not in svg
    assert "<!--" not in svg
    assert "<style" not in svg
    assert 'aria-label="shows &lt;this&gt;"' in svg
    # Nothing is painted behind the figure.
    assert "var(--card)" not in svg


def test_two_figures_share_no_ids_and_find_their_own():
    first, second = (re.findall(r'\bid="([^"]*)"', drawn(20, mark)) for mark in ("a", "b"))
    assert not set(first) & set(second)
    svg = drawn(20, "a")
    asked = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
    assert asked
    assert set(asked) <= set(first)


def test_many_dots_become_one_image():
    few, many = drawn(100), drawn(5000)
    assert "data:image/png" not in few
    assert many.count("data:image/png") == 1
    assert len(many) < 3 * len(few)


def test_names_are_taken_as_they_are():
    assert drawn(5, title="$a_{b$ <i> -->") != drawn(5, title="other")


def test_a_figure_is_drawn_the_same_every_time():
    assert drawn(500) == drawn(500)


def test_the_style_ends_with_its_block():
    with styled():
        inside = Figure().add_subplot().get_title("left"), len(PALETTE)
    assert inside == ("", 6)
    axis = Figure().subplots()
    assert axis.spines["top"].get_visible()
