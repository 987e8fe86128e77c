from dataclasses import replace

from fimp.analysis.report.content import data_name, data_section
from fimp.analysis.report.found import find_run
from fimp.analysis.report.view import View


def test_data_is_counted_and_drawn(comparison):
    run = find_run(comparison)
    section = data_section(run, View.of(run))
    facts = dict(section.facts)
    assert (facts["nodes"], facts["edges"], facts["features per node"]) == ("200", "1,600", "12")
    assert sum(int(facts[f"{part} nodes, seed 0"]) for part in ("train", "val", "test")) == 200
    assert "All 200 nodes and 1,600 edges" in section.parts[0].caption
    assert section.notes == run.results["data"]["notes"]


def test_without_data_there_are_numbers_and_no_picture(comparison):
    section = data_section(find_run(comparison), None)
    assert dict(section.facts)["nodes"] == "200"
    assert section.parts == []


def test_what_data_is_called(comparison):
    run = find_run(comparison)
    assert data_name(run) == "a<b>&'c'.h5ad"
    alone = replace(run, results=None, config=replace(run.config, source=["/x/a.h5ad", "/x/b.h5ad"]))
    assert data_name(alone) == "a.h5ad, b.h5ad"
    assert data_name(replace(alone, config=replace(run.config, source=None))) == "data handed over in memory"
