import numpy as np
import pytest

import fimp
from fimp.analysis import EdgeChoice, gene_attention, token_attention
from fimp.errors import FIMPError


@pytest.fixture(scope="module")
def adata():
    return fimp.data.simulate.tissue(n_cells=80, n_genes=12, n_pairs=2)


@pytest.fixture(scope="module")
def model(adata):
    return fimp.ExpressionModel(adata, dim=16, layers=1)


def counted(model, edges):
    """By hand: pairs (hidden gene of the receiver, visible gene of the sender) over edges and both draws."""
    count = np.zeros((12, 12), int)
    for draw in range(2):
        tokens = model.task.sampler.draw(np.arange(80), draw)
        for j, i in edges:
            asked = tokens.genes[i][tokens.hidden[i]].numpy()
            shown = tokens.genes[j][tokens.mask[j] & ~tokens.hidden[j]].numpy()
            count[np.ix_(asked, shown)] += 1
    return count


def test_attention_is_averaged_over_the_right_edges(model):
    found = gene_attention(model, draws=2)
    seen = found.count > 0
    assert ((found.mean[seen] > 0) & (found.mean[seen] < 1)).all()
    assert np.isnan(found.mean[~seen]).all()
    near = model.data.edge_index.t().tolist()
    assert np.array_equal(counted(model, near), found.count)
    own = token_attention(model, EdgeChoice("self"), draws=2)
    assert np.array_equal(counted(model, [(i, i) for i in range(80)]), own.count)
    both = token_attention(model, EdgeChoice("all"), draws=2)
    assert np.array_equal(both.count, own.count + found.count)
    total = np.nan_to_num(own.mean * own.count) + np.nan_to_num(found.mean * found.count)
    np.testing.assert_allclose(np.nan_to_num(both.mean * both.count), total, rtol=1e-6)


def test_senders_and_receivers_can_be_chosen(model):
    generator = np.random.default_rng(0)
    senders, receivers = generator.random(80) < 0.5, generator.random(80) < 0.3
    found = token_attention(model, EdgeChoice("neighbors", senders, receivers), draws=2)
    edges = [(j, i) for j, i in model.data.edge_index.t().tolist() if senders[j] and receivers[i]]
    assert np.array_equal(counted(model, edges), found.count)


def test_classes_ask_for_genes(adata):
    model = fimp.CellTypeModel(adata, label="cell_type", dim=16, layers=1)
    found = token_attention(model, draws=1)
    assert (found.rows, found.columns) == (["type A", "type B"], list(model.data.gene_names))
    # Untrained, all cells are predicted to be of the frequent class.
    frequent = model.predict_proba()[0].argmax()
    assert np.isfinite(found.mean[frequent]).all()
    assert np.isnan(found.mean[1 - frequent]).all()


def test_shares_of_regions_add_up_to_what_is_heard(tmp_path):
    scans = fimp.data.simulate.recordings(tmp_path, n_subjects=3, n_regions=8, n_times=60)
    model = fimp.RecordingModel(scans, window=20, patch=5, neighbors=3, dim=16, layers=1)
    found = token_attention(model, EdgeChoice("all"))
    # A region hears all within reach and a prior, and most of itself.
    total = (found.mean * found.count).sum(1) / (found.count[0, 0])
    assert ((total > 0.2) & (total < 1.0)).all()
    assert (np.diag(found.mean) > found.mean.mean(1)).all()
    assert np.isnan(np.diag(token_attention(model, EdgeChoice("neighbors")).mean)).all()
    names = {name: "ab"[row % 2] for row, name in enumerate(found.rows)}
    networks = token_attention(model, EdgeChoice("all"), groups=names)
    assert networks.rows == ["a", "b"]
    assert networks.count.sum() == found.count.sum()
    even = np.arange(8) % 2 == 0
    first = (found.mean * found.count)[np.ix_(even, even)].sum() / found.count[np.ix_(even, even)].sum()
    assert networks.mean[0, 0] == pytest.approx(first, rel=1e-6)


def test_models_without_cross_node_attention_are_refused(adata):
    model = fimp.ExpressionModel(adata, model="gcn")
    with pytest.raises(FIMPError, match="no cross-node attention"):
        gene_attention(model)


def test_a_graph_without_edges_is_refused(adata):
    model = fimp.ExpressionModel(adata, model="fimp-base:no-edges", dim=16)
    with pytest.raises(FIMPError, match="no edges of this choice"):
        gene_attention(model, draws=1)
    assert token_attention(model, EdgeChoice("self"), draws=1).count.sum() > 0
