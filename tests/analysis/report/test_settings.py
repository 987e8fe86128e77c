from dataclasses import replace

from fimp.analysis.report.found import find_run
from fimp.analysis.report.settings import reproduction_section, settings_section
from fimp.models.checkpoints import FileMark


def test_all_settings_are_shown(comparison):
    section = settings_section(find_run(comparison))
    data, task, train, models = section.parts
    assert ["neighbors", "8"] in data.rows
    assert ["mask ratio", "0.8"] in task.rows
    assert ["batch size", "64"] in train.rows
    assert ["label", "–"] in data.rows
    assert [row[0] for row in models.rows] == ["mean", "gcn", "fimp-base"]
    assert "rule" in models.rows[0]
    one = settings_section(find_run(comparison / "runs" / "gcn" / "seed0"))
    assert [row[0] for row in one.parts[-1].rows] == ["gcn"]


def test_machine_and_checkpoint_are_named(comparison):
    run = find_run(comparison)
    section = reproduction_section(run, [("Do:", "fimp compare")])
    assert section.commands == [("Do:", "fimp compare")]
    assert "torch" in section.notes[0]
    marked = replace(run, config=replace(run.config, files=FileMark("/m/scgpt", "abc123")))
    assert "/m/scgpt, SHA-256 abc123" in reproduction_section(marked, []).notes[-1]
