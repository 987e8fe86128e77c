import anndata
import numpy as np

import fimp
from fimp.analysis.attention_files import write_study
from fimp.analysis.attention_study import AttentionOptions, attention_study


def test_cells_keep_what_they_had_and_get_the_results(tmp_path):
    adata = fimp.data.simulate.tissue(n_cells=60, n_genes=12, n_pairs=2)
    model = fimp.ExpressionModel(adata, dim=16, layers=1)
    study = attention_study(model, adata, AttentionOptions(draws=1))
    write_study(tmp_path, study, model, adata=adata.copy())
    stored = anndata.read_h5ad(tmp_path / "attention.h5ad")
    assert np.array_equal(stored.X.toarray(), adata.X.toarray())
    assert set(stored.uns) == {"planted_pairs", "fimp_attention"}
    found = stored.uns["fimp_attention"]
    assert found["receivers"].tolist() == study.attention.rows
    np.testing.assert_array_equal(found["specific"], study.attention.specific())
    assert found["pairs"]["receiver"].tolist() == study.attention.ranked()["receiver"].tolist()
    assert "fimp_attention" not in adata.uns
    with np.load(tmp_path / "attention.npz") as arrays:
        assert not any(array.dtype == object for array in arrays.values())
