"""The claim the method stands on: messages carry a signal that is known to be there, and attention shows where from."""

import numpy as np
import pytest

import fimp
from fimp.analysis import gene_attention


@pytest.fixture(scope="module")
def adata():
    return fimp.data.simulate.tissue()


@pytest.fixture(scope="module")
def models(adata):
    return {
        name: fimp.ExpressionModel(adata, model=name, dim=dim).fit(max_epochs=50)
        for name, dim in (("mlp", 256), ("fimp-base", 64), ("fimp-base:no-edges", 64))
    }


def test_fimp_hears_what_models_without_a_graph_do_not(models):
    r2 = {name: model.evaluate()["r2"] for name, model in models.items()}
    assert r2["fimp-base"] > r2["mlp"] + 0.03
    assert r2["fimp-base"] > r2["fimp-base:no-edges"] + 0.03


def test_planted_pairs_lead_the_attention(adata, models):
    pairs = adata.uns["planted_pairs"]
    found = gene_attention(models["fimp-base"], draws=2)
    assert found.auroc(pairs["receptor"], pairs["ligand"]) > 0.8
    # Names that are drawn at random score at random, so one untrained model may favour the pairs: many do not.
    untrained = [gene_attention(fimp.ExpressionModel(adata, dim=64, seed=seed), draws=1) for seed in range(5)]
    by_chance = [model.auroc(pairs["receptor"], pairs["ligand"]) for model in untrained]
    assert abs(np.mean(by_chance) - 0.5) < 0.15
    assert max(by_chance) < found.auroc(pairs["receptor"], pairs["ligand"]) - 0.1


def test_planted_pairs_lead_the_ranked_list_and_vanish_when_edges_are_shuffled():
    adata = fimp.data.simulate.tissue(n_cells=800, n_genes=16, n_pairs=3, strength=1.5)
    receptors, ligands = (list(adata.uns["planted_pairs"][key]) for key in ("receptor", "ligand"))
    precision, auroc = {}, {}
    for name in ("fimp-base", "fimp-base:shuffled-edges"):
        model = fimp.ExpressionModel(adata, model=name, dim=64, batch_size=64).fit(max_epochs=20)
        found = gene_attention(model, draws=2)
        # Where two genes vary together each tells about the other, so that pairs count in either direction: 6 of 240.
        precision[name] = found.precision_at(6, receptors + ligands, ligands + receptors)
        auroc[name] = found.auroc(receptors, ligands)
    assert precision["fimp-base"] >= 0.5
    assert auroc["fimp-base"] > 0.95
    assert precision["fimp-base:shuffled-edges"] <= 0.2
    assert auroc["fimp-base:shuffled-edges"] < 0.8
