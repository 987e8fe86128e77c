import numpy as np
import pytest

from fimp.analysis import TokenAttention
from fimp.errors import FIMPError


@pytest.fixture
def found():
    """Two pairs of genes that lead."""
    mean = np.full((4, 4), 0.1)
    mean[1, 0] = mean[3, 2] = 0.9
    np.fill_diagonal(mean, 0.5)
    names = ["L0", "R0", "L1", "R1"]
    return TokenAttention(mean, np.ones((4, 4), int), names, names)


def test_planted_pairs_that_lead_have_auroc_and_precision_one(found):
    assert found.auroc(["R0", "R1"], ["L0", "L1"]) == 1.0
    assert found.auroc(["L0", "L1"], ["R0", "R1"]) < 1.0
    assert found.precision_at(2, ["R0", "R1"], ["L0", "L1"]) == 1.0
    assert found.precision_at(4, ["R0", "R1"], ["L0", "L1"]) == 0.5
    assert found.precision_at(2, ["L0", "L1"], ["R0", "R1"]) == 0.0


def test_specific_attention_is_what_rows_and_columns_do_not_explain(found):
    # Row R0 without its diagonal: 0.9, 0.1, 0.1; column L0: 0.9, 0.1, 0.1; all twelve: two of 0.9, ten of 0.1.
    assert found.pair_scores(["R0"], ["L0"])[0] == pytest.approx(0.9 - 1.1 / 3 - 1.1 / 3 + 2.8 / 12)
    # What rows and columns add up to alone is no interaction.
    additive = np.arange(4.0)[:, None] + np.array([0.0, 5.0, 1.0])
    other = TokenAttention(additive, np.ones((4, 3), int), list("abcd"), list("xyz"))
    np.testing.assert_allclose(other.specific(), 0.0, atol=1e-12)


def test_pairs_are_ranked_and_tokens_with_themselves_come_last(found):
    table = found.ranked()
    assert table["receiver"].tolist()[:2] == ["R0", "R1"]
    assert table["rank"].tolist()[:12] == list(range(1, 13))
    assert table["rank"][12:].isna().all()
    assert (table["receiver"][12:] == table["sender"][12:]).all()
    assert table["specific"][:12].is_monotonic_decreasing


def test_pairs_without_edges_are_not_listed():
    mean = np.array([[0.1, np.nan, 0.3], [0.2, 0.5, np.nan], [0.4, 0.1, 0.1]])
    found = TokenAttention(mean, np.isfinite(mean).astype(int), list("abc"), list("xyz"))
    table = found.ranked()
    assert len(table) == 7
    assert table["specific"].notna().all()


def test_a_single_row_is_ranked_by_attention():
    mean = np.array([[0.1, 0.4, 0.2], [np.nan] * 3])
    table = TokenAttention(mean, np.isfinite(mean).astype(int), ["seen", "never"], list("xyz")).ranked()
    assert table["sender"].tolist() == ["y", "z", "x"]


def test_unknown_names_are_named(found):
    with pytest.raises(FIMPError, match="no token is named 'X'; names are L0"):
        found.auroc(["X"], ["L0"])
