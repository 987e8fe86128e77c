import pytest

import fimp
from fimp.analysis.report.embeddings import embedding_section
from fimp.analysis.report.found import find_run
from fimp.analysis.report.view import View

SMALL = {"dim": 16, "epochs": 1, "batch_size": 32}


def viewed(model, folder):
    model.fit().save(folder)
    return View.of(find_run(folder))


def test_models_of_tokens_show_nodes_and_genes_and_others_nodes(comparison):
    for model, count in (("fimp-base", 2), ("gcn", 1)):
        section, left_out = embedding_section(View.of(find_run(comparison / "runs" / model / "seed0")))
        assert (len(section.parts), left_out) == (count, [])
        assert "40 test cells" in section.parts[0].caption
    section, left_out = embedding_section(View.of(find_run(comparison / "runs" / "mean" / "seed0")))
    assert section is None
    assert "no states" in left_out[0]


def test_cells_with_types_are_coloured_by_them_and_genes_by_their_expression(tmp_path):
    adata = fimp.data.simulate.tissue(n_cells=100, n_genes=12)
    view = viewed(fimp.CellTypeModel(adata, label="cell_type", **SMALL), tmp_path / "m")
    section, left_out = embedding_section(view)
    assert left_out == []
    assert "their class" in section.parts[0].caption
    assert "12 genes" in section.parts[1].caption


@pytest.mark.parametrize(("model", "parts"), [("fimp-base", 1), ("interpolate", 0)])
def test_regions_are_coloured_by_where_they_lie_and_rules_have_no_states(tmp_path, model, parts):
    scans = fimp.data.simulate.recordings(tmp_path / "d", n_subjects=3, n_regions=8, n_times=60)
    known = fimp.RecordingModel(scans, model=model, window=20, patch=5, neighbors=3, **SMALL)
    section, left_out = embedding_section(viewed(known, tmp_path / "m"))
    assert len(section.parts if section else []) == parts
    assert bool(left_out) == (parts == 0)
    assert section is None or "where it lies" in section.parts[0].caption
