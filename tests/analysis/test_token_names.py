import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import fimp
from fimp.analysis import EdgeChoice, token_attention
from fimp.analysis.token_names import patch_side
from fimp.errors import FIMPError
from fimp.foundation.scgpt_files import new_scgpt, save_scgpt
from fimp.foundation.vit_mae import new_vit_mae, save_vit_mae


@pytest.fixture(scope="module")
def adata():
    return fimp.data.simulate.tissue(n_cells=60, n_genes=12, n_pairs=2)


@pytest.fixture(scope="module")
def scgpt(adata, tmp_path_factory):
    """A model that does not know the last two genes."""
    folder = tmp_path_factory.mktemp("models") / "scgpt"
    save_scgpt(new_scgpt(list(adata.var_names[:10]), dim=16, layers=2, heads=2, hidden=16, dropout=0.0), folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return fimp.data.simulate.images(tmp_path_factory.mktemp("images"), n_places=40, labelled=1.0)


@pytest.mark.parametrize("options", ["", ",aggregate=final"])
def test_genes_attend_to_genes_in_a_foundation_model(adata, scgpt, options):
    model = fimp.ExpressionModel(adata, model=f"fimp:{scgpt}{options}")
    found = token_attention(model, draws=1)
    assert found.rows == found.columns == list(model.data.gene_names)
    # Attention sums to one over a sender's visible genes and <cls>, which is no gene.
    known = np.flatnonzero((found.count > 0).any(0))
    assert len(known) >= 10
    assert (found.mean[found.count > 0] > 0).all()
    by_layer = [token_attention(model, draws=1, layer=layer) for layer in (0, 1)]
    np.testing.assert_allclose((by_layer[0].mean + by_layer[1].mean) / 2, found.mean, rtol=1e-5)
    own = token_attention(model, EdgeChoice("self"), draws=1)
    assert np.array_equal(own.count + found.count, token_attention(model, EdgeChoice("all"), draws=1).count)


def test_a_foundation_model_without_a_graph_attends_to_itself_alone(adata, scgpt):
    model = fimp.CellTypeModel(adata, label="cell_type", model=f"fm:{scgpt}")
    assert token_attention(model, EdgeChoice("self"), draws=1).count.sum() > 0
    with pytest.raises(FIMPError, match="no edges of this choice"):
        token_attention(model, draws=1)


def test_patches_attend_to_patches_in_a_vision_transformer(images, tmp_path):
    folder = tmp_path / "vit"
    save_vit_mae(new_vit_mae(16, 4, dim=16, layers=1, heads=2, hidden=16, decoder_dim=8, decoder_layers=1), folder)
    model = fimp.ImageModel(images, model=f"fimp:{folder}", image_size=16, split_by="region")
    assert patch_side(model) == 4
    found = token_attention(model)
    assert found.rows == found.columns
    assert found.columns[6] == "row 2 column 3"
    # One less what goes to the class token.
    assert ((found.mean.sum(1) > 0.5) & (found.mean.sum(1) < 1.0)).all()


@pytest.mark.parametrize("tokenizer", ["features", "grouped"])
def test_features_of_nodes_are_columns(tokenizer):
    edges = torch.stack([torch.arange(40), torch.arange(40).roll(1)])
    data = Data(x=torch.rand(40, 6), edge_index=edges, y=torch.arange(40) % 3)
    model = fimp.NodeModel(data, tokenizer=tokenizer, groups=2, dim=16, layers=1)
    found = token_attention(model)
    assert found.rows == ["class 0", "class 1", "class 2"]
    assert found.columns == [
        f"{'feature' if tokenizer == 'features' else 'group'} {k}" for k in range(len(found.columns))
    ]
    assert len(found.columns) == (6 if tokenizer == "features" else 2)
    assert found.count.sum() == 40 * len(found.columns)


def test_only_regions_are_grouped(adata):
    model = fimp.ExpressionModel(adata, dim=16)
    with pytest.raises(FIMPError, match="--group-by: groups regions of recordings, and these are cells"):
        token_attention(model, groups={"a": "b"})


def test_every_region_needs_a_network(tmp_path):
    scans = fimp.data.simulate.recordings(tmp_path, n_subjects=3, n_regions=6, n_times=40)
    model = fimp.RecordingModel(scans, window=20, patch=5, neighbors=2, dim=16, layers=1)
    with pytest.raises(FIMPError, match=r"no network for region 'region 1' \(5 of 6 are missing\)"):
        token_attention(model, groups={"region 0": "visual"})
