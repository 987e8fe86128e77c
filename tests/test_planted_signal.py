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
