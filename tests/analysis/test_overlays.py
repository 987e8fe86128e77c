import numpy as np
import pytest

import fimp
from fimp.analysis import EdgeChoice, token_attention
from fimp.analysis.overlays import overlay_figure, patch_maps
from fimp.errors import FIMPError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return fimp.data.simulate.images(tmp_path_factory.mktemp("images"), n_places=40, labelled=1.0)


def test_overlays_are_the_attention_of_single_edges(images, tmp_path):
    model = fimp.ImageModel(images, image_size=16, patch_size=8, split_by="region", dim=16, layers=1)
    nodes = np.arange(5)
    maps = patch_maps(model, nodes, EdgeChoice("all"))
    edges = {(i, j) for j, i in model.data.edge_index.t().tolist() if i < 5} | {(i, i) for i in range(5)}
    assert set(maps) == edges
    whole = patch_maps(model, np.arange(model.data.num_nodes), EdgeChoice("neighbors"))
    mean = np.mean(list(whole.values()), axis=0).ravel()
    found = token_attention(model)
    shown = (found.count > 0).any(1)
    np.testing.assert_allclose(np.average(found.mean[shown], 0, found.count[shown, 0]), mean, rtol=1e-5)
    overlay_figure(model, tmp_path / "o.png")
    assert (tmp_path / "o.png").stat().st_size > 5000


def test_without_edges_there_is_nothing_to_draw(images, tmp_path):
    model = fimp.ImageModel(images, image_size=16, patch_size=8, split_by="region", dim=16, layers=1)
    nobody = np.zeros(model.data.num_nodes, bool)
    with pytest.raises(FIMPError, match="no image has an edge of this choice"):
        overlay_figure(model, tmp_path / "o.png", EdgeChoice("neighbors", receivers=nobody))
