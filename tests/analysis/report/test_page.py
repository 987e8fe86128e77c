from matplotlib.figure import Figure

from fimp.analysis.report.page import Page, Section, Table, draw, image


def page(section):
    return Page("a <b>", "lead", [("fact", "1")], [section], [], "end").html()


def test_everything_but_drawings_is_escaped():
    section = Section("m", "t&t", ["<i>"], commands=[("<u>", "a > 'b'")], notes=["<n>"], facts=[("<f>", "<v>")])
    section.parts.append(Table("<c>", ["<h>", "n"], [["<x>", "<y>"]], (1,), (0,)))
    html = page(section)
    for tag in ("<b>", "<i>", "<u>", "<n>", "<c>", "<h>", "<x>", "<y>", "<f>", "<v>"):
        assert tag not in html
        assert tag.replace("<", "&lt;").replace(">", "&gt;") in html
    assert "a &gt; &#39;b&#39;" in html
    assert '<th scope="row">&lt;x&gt;</th><td class="number">' in html


def test_parts_keep_their_order():
    section = Section("m", "t")
    first = draw("f", "alt text", lambda: (Figure(figsize=(2, 2)), "caption one"))
    section.parts += [Table("before", ["a", "b"], []), first, Table("after", ["a", "b"], [])]
    html = page(section)
    assert html.index("before") < html.index("<svg") < html.index("caption one") < html.index("after")
    assert "left-out" not in html


def test_an_image_becomes_part_of_the_page(tmp_path):
    Figure(figsize=(1, 1)).savefig(tmp_path / "f.png")
    picture = image(tmp_path / "f.png", 'a "quoted" name', "c")
    assert picture.markup.startswith('<img src="data:image/png;base64,iVBOR')
    # 100 pixels, and no smaller than it is.
    assert 'style="max-width: 67px; min-width: 67px"' in picture.markup
    assert "&#34;quoted&#34;" in picture.markup
