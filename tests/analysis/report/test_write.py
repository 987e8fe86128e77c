import re
import shutil

import pytest

import fimp
from fimp.analysis.report import find_run, write_report
from fimp.errors import FIMPError


def test_a_comparison_has_all_parts_and_nothing_from_elsewhere(comparison, report_of):
    html, left_out = report_of(comparison)
    assert left_out == []
    for mark in ("scores", "data", "training", "predictions", "embeddings", "configuration", "reproduce"):
        assert f'<section id="{mark}">' in html
        assert f'href="#{mark}"' in html
    assert '<section id="attention">' not in html
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "@import" not in html
    marks = re.findall(r'\bid="([^"]*)"', html)
    assert len(marks) == len(set(marks))
    for svg in re.findall(r"<svg[^>]*>", html):
        assert 'role="img" aria-label="' in svg
    assert html.count("<h1>") == 1
    assert len(html) < 1_500_000


def test_names_are_escaped(comparison, report_of):
    html, _ = report_of(comparison)
    assert "a&lt;b&gt;&amp;&#39;c&#39;.h5ad" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert "alert(1)</script>" not in html


def test_the_same_run_gives_the_same_page(comparison, report_of):
    assert report_of(comparison) == report_of(comparison)


def test_a_run_is_held_against_its_comparison(comparison, report_of):
    html, left_out = report_of(comparison / "runs" / "gcn" / "seed1")
    assert left_out == []
    assert "This run is seed 1 of gcn: MSE" in html
    assert '<tr class="strong"><th scope="row">gcn</th>' in html


def test_what_a_model_cannot_show_is_said(comparison, report_of):
    html, left_out = report_of(comparison / "runs" / "mean" / "seed0")
    assert any("no states" in sentence for sentence in left_out)
    assert "no states" in html
    assert '<section id="predictions">' in html


def test_a_saved_model_says_that_it_has_no_comparison(tmp_path, report_of):
    model = fimp.ExpressionModel(fimp.data.simulate.tissue(n_cells=80, n_genes=12), model="gcn", dim=16, epochs=1)
    model.fit().save(tmp_path / "m")
    html, left_out = report_of(tmp_path / "m")
    assert left_out == []
    assert "belongs to no comparison" in html
    # Scores are of the same nodes that evaluate takes.
    assert f"{model.evaluate()['r2']:.4f}" in html


def test_without_its_data_a_report_still_has_scores_and_curves(comparison, tissue, tmp_path, report_of):
    folder = tmp_path / "moved"
    shutil.copytree(comparison, folder)
    for path in folder.glob("runs/*/*/config.yaml"):
        path.write_text(path.read_text().replace(str(tissue.parent), str(tmp_path / "gone")))
    html, left_out = report_of(folder)
    assert len(left_out) == 1
    assert "not at hand" in left_out[0]
    assert "gone" in left_out[0]
    for mark in ("scores", "data", "training", "configuration", "left-out"):
        assert f'<section id="{mark}">' in html
    assert '<section id="predictions">' not in html
    assert "<dd>200</dd>" in html


def test_what_cannot_be_written_leaves_nothing(comparison, tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "mean" / "seed0"
    shutil.copytree(comparison / "runs" / "mean" / "seed0", folder)
    run, before = find_run(folder), sorted(folder.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fimp.train.runs.os.replace", full)
        with pytest.raises(FIMPError, match="No space left"):
            write_report(run, lambda task: [])
    assert sorted(folder.iterdir()) == before
    (folder / "report.html").mkdir()
    with pytest.raises(FIMPError, match="cannot be written"):
        write_report(run, lambda task: [])


def test_the_browser_would_see_what_is_wrong(browser, tmp_path):
    page = tmp_path / "p.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width"><body style="width: 700px"><img src="gone.png"><img src="http://127.0.0.1:9/x.png">'
        "<figure><svg width=5 height=5></svg></figure><script>console.log('said'); nonsense()</script>"
    )
    found = browser.look(page, 360)
    assert found["scroll"] > found["view"]
    assert (found["broken"], found["flat"]) == (2, 1)
    assert len(found["console"]) >= 2
    assert found["network"] == ["http://127.0.0.1:9/x.png"]


def test_a_real_browser_finds_nothing_wrong(comparison, browser):
    path, _ = write_report(find_run(comparison), lambda task: [("Again:", "fimp compare " + 40 * "long ")])
    looks = {}
    for width in (360, 768, 1280):
        for dark in (False, True):
            found = browser.look(path, width, dark)
            assert found["scroll"] <= found["view"] == width
            assert (found["broken"], found["flat"], found["console"], found["network"]) == (0, 0, [], [])
            looks[dark] = found["ink"], found["page"]
    assert looks[False] != looks[True]
