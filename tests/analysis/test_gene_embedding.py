import numpy as np

from fimp.analysis.gene_embedding import gene_embedding


def test_a_panel_per_cell_type_on_one_scale_with_the_highest_genes_named():
    generator = np.random.default_rng(0)
    names = [f"g{k}" for k in range(20)]
    high, low = np.arange(20.0), 0.1 * np.arange(20.0)[::-1]
    figure, _ = gene_embedding(generator.normal(size=(20, 4)), names, [("type A", high), ("type B", low)])
    first, second = figure.axes[:2]
    assert first.collections[0].get_clim() == second.collections[0].get_clim() == (0.0, 19.0)
    assert [text.get_text() for text in first.texts] == ["g19", "g18", "g17", "g16", "g15", "g14"]
    assert second.texts[0].get_text() == "g0"
    titles = [axis.get_title() or axis.get_title("left") for axis in (first, second)]
    assert titles == ["type A", "type B"]
