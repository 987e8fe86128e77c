import pytest
import torch
from torch_geometric.data import Data

import fimp
from fimp.analysis.report.found import find_run
from fimp.analysis.report.predictions import prediction_section
from fimp.analysis.report.view import View

SMALL = {"dim": 16, "epochs": 1, "batch_size": 32}


def saved(model, folder):
    model.fit().save(folder)
    run = find_run(folder)
    return run, View.of(run)


def graph(count):
    edges = torch.stack([torch.arange(count), torch.arange(count).roll(1)])
    x = torch.rand(count, 6, generator=torch.Generator().manual_seed(0))
    return Data(x=x, edge_index=edges, y=torch.arange(count) % 3)


def alts(section):
    return [part.alt for part in section.parts if hasattr(part, "alt")]


def test_genes_are_mapped_and_listed(comparison):
    run = find_run(comparison)
    section = prediction_section(run, View.of(run))
    assert alts(section) == ["Maps of measured expression, prediction and error of two genes"]
    table = section.parts[-1]
    scores = [float(row[1]) for row in table.rows]
    assert scores == sorted(scores, reverse=True)
    assert "not trained" in section.text[0]


def test_cell_types(tmp_path):
    adata = fimp.data.simulate.tissue(n_cells=100, n_genes=12)
    run, view = saved(fimp.CellTypeModel(adata, label="cell_type", **SMALL), tmp_path / "m")
    assert [alt.split()[0] for alt in alts(prediction_section(run, view))] == ["Which", "Maps"]
    assert "type" in view.class_names[0]


def test_images(tmp_path):
    table = fimp.data.simulate.images(tmp_path / "d", n_places=60, labelled=1.0)
    model = fimp.ImageModel(table, model="sage", image_size=16, patch_size=8, split_by="region", **SMALL)
    run, view = saved(model, tmp_path / "m")
    section = prediction_section(run, view)
    assert [alt.split()[0] for alt in alts(section)] == ["Which", "Maps", "Some"]
    assert "longitude" in section.parts[1].caption


def test_graphs_without_places_have_no_map(tmp_path):
    run, view = saved(fimp.NodeModel(graph(60), model="sage", **SMALL), tmp_path / "m")
    assert alts(prediction_section(run, view)) == ["Which classes are taken for which"]
    assert view.class_names == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize("model", ["fimp-base", "interpolate"])
def test_recordings(tmp_path, model):
    scans = fimp.data.simulate.recordings(tmp_path / "d", n_subjects=3, n_regions=8, n_times=60)
    run, view = saved(fimp.RecordingModel(scans, model=model, window=20, patch=5, neighbors=3, **SMALL), tmp_path / "m")
    assert alts(prediction_section(run, view)) == ["Signals of some regions, recorded and filled in"]
