import json
import math

import numpy as np
import pytest

import fimp
from fimp.analysis import TokenAttention
from fimp.analysis.planted import PLANTED, PlantedLead, planted_lead, planted_pairs
from fimp.errors import FIMPError

GENES = ["Lig0", "Rec0", "Lig1", "Rec1", "Mark0"]
PAIRS = [("Rec0", "Lig0"), ("Rec1", "Lig1")]


def attention(high):
    """Attention that is specific to the pairs given, the first of them most."""
    mean = np.full((5, 5), 0.1)
    for place, (receiver, sender) in enumerate(high):
        mean[GENES.index(receiver), GENES.index(sender)] += 1.0 - 0.1 * place
    return TokenAttention(mean, np.ones((5, 5), int), GENES, GENES)


def test_pairs_that_lead_have_precision_one():
    found = attention(PAIRS)
    for receiver, sender in PAIRS:
        found.mean[GENES.index(sender), GENES.index(receiver)] = 0.0
    lead = planted_lead(found, PAIRS, "fimp-base", 3, "neighbors")
    assert (lead.model, lead.seed, lead.edges, lead.ranked) == ("fimp-base", 3, "neighbors", 20)
    assert (lead.planted.k, lead.planted.precision, lead.planted.auroc) == (2, 1.0, 1.0)
    assert lead.planted.chance == pytest.approx(2 / 20)
    # The mirror images are attended to less than anything.
    assert (lead.either.k, lead.either.precision) == (4, 0.5)
    assert lead.either.chance == pytest.approx(4 / 20)
    assert lead.either.auroc < 1.0


def test_mirror_images_count_in_either_direction_only():
    mirrored = [(sender, receiver) for receiver, sender in PAIRS]
    lead = planted_lead(attention([*mirrored, *PAIRS]), PAIRS, "m", 0, "all")
    assert (lead.planted.precision, lead.either.precision) == (0.0, 1.0)
    assert lead.planted.auroc == pytest.approx(16 / 18)


def test_other_pairs_in_the_lead_leave_nothing():
    others = [("Mark0", "Lig0"), ("Lig0", "Mark0"), ("Mark0", "Rec1"), ("Rec1", "Mark0")]
    lead = planted_lead(attention(others), PAIRS, "m", 0, "all")
    assert (lead.planted.precision, lead.either.precision) == (0.0, 0.0)
    assert "precision at 2 0.00 (by chance 0.10)" in lead.sentence


def test_a_pair_that_is_not_ranked_has_no_auroc(tmp_path):
    found = attention([])
    found.mean[1, 0] = found.mean[3, 2] = np.nan
    lead = planted_lead(found, PAIRS, "m", 0, "all")
    assert lead.planted.chance == 0.0
    assert math.isnan(lead.planted.auroc)
    lead.write(tmp_path)
    assert json.loads((tmp_path / PLANTED).read_text())["planted"]["auroc"] is None
    assert math.isnan(PlantedLead.read(tmp_path / PLANTED).planted.auroc)


def test_what_is_written_is_read_back(tmp_path):
    lead = planted_lead(attention(PAIRS), PAIRS, "fimp:FOLDER", 1, "self")
    lead.write(tmp_path)
    assert PlantedLead.read(tmp_path / PLANTED) == lead
    assert [path.name for path in tmp_path.iterdir()] == [PLANTED]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pairs": [["a"]], "planted": {}, "either": {}}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / PLANTED).write_text(content)
    with pytest.raises(FIMPError, match=r"planted\.json: cannot be read .*run fimp attention again"):
        PlantedLead.read(tmp_path / PLANTED)


def test_pairs_are_those_that_cells_and_model_know():
    adata = fimp.data.simulate.tissue(n_cells=20, n_genes=6, n_pairs=2)
    assert planted_pairs(adata, adata.var_names) == PAIRS
    assert planted_pairs(adata, ["Rec1", "Lig1", "Rec0"]) == PAIRS[1:]
    adata.uns["planted_pairs"] = {"receptor": ["Rec0", "Rec1"], "ligand": ["Lig0"]}
    assert planted_pairs(adata, adata.var_names) == []
    adata.uns["planted_pairs"] = "something else"
    assert planted_pairs(adata, adata.var_names) == []
