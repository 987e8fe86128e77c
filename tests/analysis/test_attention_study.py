import numpy as np
import pytest

import fimp
from fimp.analysis import EdgeChoice, gene_attention, token_attention
from fimp.analysis.attention_files import pair_table
from fimp.analysis.attention_study import AttentionOptions, attention_study
from fimp.errors import FIMPError


@pytest.fixture(scope="module")
def adata():
    adata = fimp.data.simulate.tissue(n_cells=120, n_genes=12, n_pairs=2)
    adata.obs["slide"] = np.repeat(["s1", "s2", "s3", "s4"], 30)
    adata.obs["dose"] = np.repeat([0.0, 1.0, 0.5, 2.0], 30)
    return adata


@pytest.fixture(scope="module")
def model(adata):
    return fimp.ExpressionModel(adata, dim=16, layers=1, section="slide")


def test_one_pass_gives_attention_types_and_planted_pairs(adata, model):
    study = attention_study(model, adata, AttentionOptions(draws=2))
    wanted = gene_attention(model, draws=2)
    np.testing.assert_array_equal(study.attention.mean, wanted.mean)
    assert study.planted.pairs == [("Rec0", "Lig0"), ("Rec1", "Lig1")]
    assert study.planted.ranked == len(wanted.order())
    assert study.by_type["count"].sum() <= wanted.count.sum()
    assert study.contrast is None
    assert "cell types: obs['cell_type']" in study.notes


def test_cells_of_sections_are_compared_by_section(adata, model):
    study = attention_study(model, adata, AttentionOptions(contrast="dose", cut=1.0, draws=1))
    assert study.contrast.groups == ("below 1", "1 and above")
    assert "2 and 2 sections exchanged their groups; no p can be below 0.33" in study.contrast.note
    # Sections count alike: by hand, from the attention of each section.
    means = []
    for section in range(4):
        inside = model.data.section.numpy() == section
        means.append(token_attention(model, EdgeChoice("neighbors", receivers=inside), draws=1).mean)
    below, above = np.nanmean([means[0], means[2]], axis=0), np.nanmean([means[1], means[3]], axis=0)
    np.testing.assert_allclose(study.contrast.difference, below - above, rtol=1e-4, atol=1e-7)
    table = pair_table(study)
    row = table.iloc[3]
    place = study.attention.rows.index(row["receiver"]), study.attention.columns.index(row["sender"])
    assert row["difference"] == study.contrast.difference[place]
    assert row["attention_below 1"] == study.contrast.first[place]


def test_without_a_table_of_cells_columns_cannot_be_had(model):
    study = attention_study(model, None, AttentionOptions(draws=1))
    assert study.by_type is None
    assert study.planted is None
    with pytest.raises(FIMPError, match="give the AnnData that it was trained on"):
        attention_study(model, None, AttentionOptions(contrast="dose"))


@pytest.mark.parametrize(("name", "value"), [("draws", 0), ("permutations", 5), ("edges", "few")])
def test_values_outside_their_range_are_refused(name, value):
    with pytest.raises(FIMPError, match=f"--{name}: "):
        AttentionOptions(**{name: value})
