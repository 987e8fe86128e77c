import shutil

import pytest
from matplotlib.figure import Figure

from fimp.analysis.planted import Lead, PlantedLead
from fimp.analysis.report.attention import attention_section
from fimp.analysis.report.found import find_run
from fimp.errors import FIMPError


@pytest.fixture
def run(comparison, tmp_path):
    shutil.copytree(comparison / "runs" / "mean" / "seed0", tmp_path / "r")
    return find_run(tmp_path / "r")


def test_there_is_no_section_without_figures(run):
    assert attention_section(run) is None
    (run.folder / "attention").mkdir()
    assert attention_section(run) is None


def test_figures_and_leading_pairs_are_shown(run):
    folder = run.folder / "attention"
    folder.mkdir()
    for name in ("a_new-one", "pairs", "heatmap"):
        Figure(figsize=(1, 1)).savefig(folder / f"{name}.png")
    rows = "\n".join(f"a<{k}>,b,{1 / (k + 3)},{k}" for k in range(40))
    (folder / "pairs.csv").write_text(f"receiver,sender,score,count\n{rows}\n")
    section = attention_section(run)
    *pictures, table = section.parts
    assert all('src="data:image/png;base64,' in picture.markup for picture in pictures)
    shown = [picture.caption.split("(")[-1] for picture in pictures]
    assert shown == ["attention/heatmap.png).", "attention/pairs.png).", "attention/a_new-one.png)."]
    assert 'alt="Attention: a new one"' in pictures[-1].markup
    assert len(table.rows) == 15
    assert table.rows[0] == ["a<0>", "b", "0.3333", "0"]
    assert table.numbers == (2, 3)
    assert "15 of 40" in table.caption


def test_figures_of_a_comparison_are_found_in_the_run_that_is_shown(comparison, tmp_path):
    shutil.copytree(comparison, tmp_path / "c")
    shown = find_run(tmp_path / "c").shown
    (shown / "attention").mkdir()
    Figure(figsize=(1, 1)).savefig(shown / "attention" / "one.png")
    assert len(attention_section(find_run(tmp_path / "c")).parts) == 1


def test_a_damaged_figure_is_named(run):
    (run.folder / "attention").mkdir()
    (run.folder / "attention" / "pairs.png").write_bytes(b"nothing")
    with pytest.raises(FIMPError, match=r"pairs\.png: is no image"):
        attention_section(run)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_a_damaged_table_is_named(run, content):
    (run.folder / "attention").mkdir()
    (run.folder / "attention" / "pairs.csv").write_bytes(content)
    with pytest.raises(FIMPError, match=r"pairs\.csv: .*run fimp attention again"):
        attention_section(run)


def lead(model, precision, pairs=(("Rec0", "Lig0"), ("Rec1", "Lig1"))):
    one, both = Lead(2, precision, 0.1, 0.9), Lead(4, precision, 0.2, float("nan"))
    return PlantedLead(model, 0, "neighbors", 20, list(pairs), one, both)


def test_planted_pairs_are_shown_beside_the_ranked_ones(run):
    folder = run.folder / "attention"
    folder.mkdir()
    (folder / "pairs.csv").write_text("receiver,sender,score\nRec0,Lig1,3\nRec0,Lig0,2\nLig0,Rec0,1\n")
    lead("fimp-base", 0.5).write(folder)
    planted, pairs = attention_section(run).parts
    assert "among 20 ranked pairs" in planted.caption
    assert [row[3:] for row in planted.rows] == [
        ["as planted", "2", "0.50", "0.10", "0.90"],
        ["either", "4", "0.50", "0.20", "–"],
    ]
    assert pairs.strong == (1,)
    assert pairs.caption.endswith("; planted ones stand out")


def test_a_run_with_shuffled_edges_is_held_against(comparison, tmp_path):
    shutil.copytree(comparison, tmp_path / "c")
    runs = tmp_path / "c" / "runs"
    for model, folder, precision in (("fimp-base", "fimp-base", 1.0), ("fimp-base:shuffled-edges", "gcn", 0.0)):
        (runs / folder / "seed0" / "attention").mkdir()
        lead(model, precision).write(runs / folder / "seed0" / "attention")
    for folder in (tmp_path / "c", runs / "fimp-base" / "seed0"):
        (table,) = attention_section(find_run(folder)).parts
        assert [(row[0], row[5]) for row in table.rows] == [
            *2 * [("fimp-base", "1.00")],
            *2 * [("fimp-base:shuffled-edges", "0.00")],
        ]
        assert table.strong == (0, 1)


def test_a_damaged_file_of_planted_pairs_is_named(run):
    (run.folder / "attention").mkdir()
    (run.folder / "attention" / "planted.json").write_text("{")
    with pytest.raises(FIMPError, match=r"planted\.json: .*run fimp attention again"):
        attention_section(run)
