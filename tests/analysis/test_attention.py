import numpy as np
import pytest

import fimp
from fimp.analysis import GeneAttention, gene_attention
from fimp.errors import FIMPError


def test_planted_pairs_that_lead_have_auroc_one():
    mean = np.full((4, 4), 0.1)
    mean[1, 0] = mean[3, 2] = 0.9
    found = GeneAttention(mean, np.ones((4, 4), int), ["L0", "R0", "L1", "R1"])
    assert found.auroc(["R0", "R1"], ["L0", "L1"]) == 1.0
    assert found.auroc(["L0", "L1"], ["R0", "R1"]) < 1.0
    # Row R0 without its diagonal: 0.9, 0.1, 0.1; column L0: 0.9, 0.1, 0.1; all twelve: two of 0.9, ten of 0.1.
    assert found.pair_scores(["R0"], ["L0"])[0] == pytest.approx(0.9 - 1.1 / 3 - 1.1 / 3 + 2.8 / 12)
    # What rows and columns add up to alone is no interaction.
    additive = np.arange(4.0)[:, None] + np.array([0.0, 5.0, 1.0, 2.0])
    off = ~np.eye(4, dtype=bool)
    assert np.corrcoef(GeneAttention(additive, off, list("abcd")).specific()[off], additive[off])[0, 1] < 0.5


def test_attention_is_averaged_over_the_right_edges():
    adata = fimp.data.simulate.tissue(n_cells=80, n_genes=12, n_pairs=2)
    model = fimp.ExpressionModel(adata, dim=16, layers=1)
    found = gene_attention(model, draws=2)
    assert found.mean.shape == (12, 12)
    seen = found.count > 0
    assert ((found.mean[seen] > 0) & (found.mean[seen] < 1)).all()
    assert np.isnan(found.mean[~seen]).all()
    # By hand: pairs (hidden gene of the receiver, visible gene of the sender) over all edges and both draws.
    count = np.zeros((12, 12), int)
    for draw in range(2):
        tokens = model.task.sampler.draw(np.arange(80), draw)
        for j, i in model.data.edge_index.t().tolist():
            asked = tokens.genes[i][tokens.hidden[i]].numpy()
            shown = tokens.genes[j][tokens.mask[j] & ~tokens.hidden[j]].numpy()
            count[np.ix_(asked, shown)] += 1
    assert np.array_equal(count, found.count)


def test_models_without_cross_node_attention_are_refused():
    model = fimp.ExpressionModel(fimp.data.simulate.tissue(n_cells=40, n_genes=8, n_pairs=2), model="gcn")
    with pytest.raises(FIMPError, match="no cross-node attention"):
        gene_attention(model)
