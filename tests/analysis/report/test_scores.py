from dataclasses import replace

from fimp.analysis.report.found import find_run
from fimp.analysis.report.scores import bounds_text, label, score_section, training_section


def test_scores_intervals_and_differences_are_those_of_the_comparison(comparison):
    run = find_run(comparison)
    section = score_section(run, None)
    scores, differences, picture = section.parts
    row = next(row for row in run.results["summary"] if row["model"] == "gcn")
    shown = next(row for row in scores.rows if row[0] == "gcn")
    assert f"{row['metrics']['r2']['mean']:.4f} ± " in shown[2]
    assert shown[4] == bounds_text(row["interval"])
    assert [row[0] for row in scores.rows] == ["mean", "gcn", "fimp-base"]
    assert scores.strong == (2,)
    verdicts = {(e["model"], e["verdict"]) for e in run.results["comparisons"] if e["metric"] == "r2"}
    assert {(row[0], row[4]) for row in differences.rows} == verdicts
    assert "95 % interval" in picture.caption


def test_a_run_alone_says_so(comparison):
    run = replace(find_run(comparison), results=None, comparison=None)
    assert "no baselines" in score_section(run, None).text[0]


def test_curves_are_of_what_was_trained(comparison):
    run = find_run(comparison)
    assert "of 2 models" in training_section(run).parts[0].alt
    mean = replace(find_run(comparison / "runs" / "mean" / "seed0"), results=None, comparison=None)
    assert training_section(mean) is None


def test_words_for_numbers():
    assert bounds_text(None) == "–"
    assert bounds_text([0.12345, 0.5]) == "0.123 to 0.500"
    assert (label("r2"), label("mse"), label("other")) == ("R²", "MSE", "other")
