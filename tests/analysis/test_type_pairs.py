import numpy as np
import pandas as pd
import torch

import fimp
from fimp.analysis import EdgeChoice, token_attention, type_pairs
from fimp.analysis.attention import Ledger, collect
from fimp.analysis.token_names import token_names
from fimp.analysis.type_pairs import TypePairSums
from fimp.data.columns import encode


def test_each_pair_of_types_has_its_own_edges(monkeypatch):
    adata = fimp.data.simulate.tissue(n_cells=80, n_genes=12, n_pairs=2)
    model = fimp.ExpressionModel(adata, dim=16, layers=1)
    types = encode(adata.obs["cell_type"])
    names = token_names(model, model.task)
    whole = TypePairSums(types, names.rows, names.columns, np.arange(12))
    # Room for five genes: the most frequent ones.
    monkeypatch.setattr(type_pairs, "_ENTRIES", 100)
    few = TypePairSums(types, names.rows, names.columns, np.arange(12))
    assert few.columns == names.columns[7:]
    collect(model, model.task, names, draws=1, ledgers=[Ledger(one, one.layer_of) for one in (whole, few)])
    for sender in range(2):
        for receiver in range(2):
            choice = EdgeChoice("neighbors", types.codes == sender, types.codes == receiver)
            wanted = token_attention(model, choice, draws=1)
            layer = 2 * receiver + sender
            assert np.array_equal(whole.count[layer], wanted.count)
            # Edges were computed in other batches, in single precision.
            np.testing.assert_allclose(whole.mean[layer], wanted.mean, rtol=1e-6)
            np.testing.assert_allclose(few.mean[layer], wanted.mean[7:, 7:], rtol=1e-6)
    table = whole.table()
    first = table[(table["receiver_type"] == "type B") & (table["sender_type"] == "type A")]
    wanted = token_attention(model, EdgeChoice("neighbors", types.codes == 0, types.codes == 1), draws=1).ranked()
    columns = ["receiver", "sender", "attention", "count"]
    expected = wanted.dropna(subset=["rank"])[columns].head(50)
    pd.testing.assert_frame_equal(first[columns].reset_index(drop=True), expected)


def test_cells_without_a_type_have_no_part():
    sums = TypePairSums(encode(pd.Series(["a", None, "b"])), ["x"], ["x"], np.ones(1, int))
    edges = torch.tensor([[0, 1, 2, 2], [2, 0, 1, 0]])
    assert sums.layer_of(edges).tolist() == [2, -1, -1, 1]
