import numpy as np

from fimp.analysis.expression_maps import ENOUGH, HiddenValues, expression_maps, scored_genes


def values(genes=3, cells=40):
    generator = np.random.default_rng(0)
    cell, gene = np.repeat(np.arange(cells), genes), np.tile(np.arange(genes), cells)
    truth = generator.normal(size=len(cell))
    noise = generator.normal(size=len(cell))
    # Gene 0 is predicted well, gene 1 badly, the others not at all.
    predicted = truth + noise * np.array([0.1, 0.8] + [2.0] * (genes - 2))[gene]
    return HiddenValues(cell, gene, truth, predicted)


def test_genes_are_ranked_by_r2_around_their_own_mean():
    found = scored_genes(values())
    assert [gene for _, gene in found] == [0, 1, 2]
    own = values().take(values().gene == 1)
    expected = 1 - ((own.predicted - own.truth) ** 2).sum() / ((own.truth - own.truth.mean()) ** 2).sum()
    assert np.isclose(found[1][0], expected)


def test_genes_with_few_values_or_without_spread_are_left_out():
    known = values()
    rare = known.take((known.gene != 0) | (known.cell < ENOUGH - 1))
    assert [gene for _, gene in scored_genes(rare)] == [1, 2]
    flat = known._replace(truth=np.where(known.gene == 1, 2.0, known.truth))
    assert [gene for _, gene in scored_genes(flat)] == [0, 2]


def test_every_gene_is_a_row_with_truth_and_prediction_on_one_scale():
    xy = np.random.default_rng(1).uniform(size=(40, 2))
    figure = expression_maps(values(), xy, np.arange(40), [("best", 0), ("worst", 2)])
    panels = figure.axes[:6]
    assert panels[3].get_title().startswith("worst")
    measured, predicted, error = (panel.collections[1] for panel in panels[:3])
    own = values().take(values().gene == 0)
    np.testing.assert_allclose(measured.get_array(), own.truth)
    np.testing.assert_allclose(error.get_array(), own.predicted - own.truth)
    assert measured.get_clim() == predicted.get_clim()
    assert error.get_clim()[0] == -error.get_clim()[1]
