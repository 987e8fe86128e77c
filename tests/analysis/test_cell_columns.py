import numpy as np
import pandas as pd
import pytest

import fimp
from fimp.analysis.cell_columns import cell_types, named_column, read_obs
from fimp.data.cells import CellOptions, load_cells
from fimp.errors import FIMPError


def test_rows_are_those_of_the_graph():
    adata = fimp.data.simulate.tissue(n_cells=60, n_genes=12, n_pairs=2)
    adata.obs["place"] = adata.obsm["spatial"][:, 0]
    for source in (adata, [adata[:40].copy(), adata[40:].copy()]):
        data = load_cells(source, CellOptions(fraction=0.5))
        np.testing.assert_allclose(read_obs(source, data)["place"], data.pos[:, 0])
    with pytest.raises(FIMPError, match="give the AnnData that it was trained on"):
        read_obs(None, data)


def test_types_are_recognised_or_named():
    obs = pd.DataFrame({"batch": list("xxyy") * 5, "cell_type": list("abab") * 5, "size": np.arange(20.0)})
    assert cell_types(obs, None, "here")[0] == "cell_type"
    assert cell_types(obs, "batch", "here")[1].names == ["x", "y"]
    assert cell_types(obs[["batch", "size"]], None, "here")[0] == "batch"
    assert cell_types(obs[["size"]], None, "here") is None
    with pytest.raises(FIMPError, match="here: no obs column 'kind' for --label; there are batch, cell_type, size"):
        cell_types(obs, "kind", "here")
    assert named_column(obs, "batch", "here", "--unit").codes.tolist() == [0, 0, 1, 1] * 5
