"""Real data, where they lie beside the checkout."""

from pathlib import Path

import anndata
import numpy as np
import pytest

import fimp
from fimp.data.recording_graph import RecordingOptions, read_recording_graph
from fimp.models import resolve
from fimp.tasks import FMRITask
from fimp.train import TrainOptions, evaluate

RECORDINGS = Path(__file__).parents[2] / "shared" / "data" / "fmri"
FILES = sorted((Path(__file__).parents[2] / "shared" / "data" / "spatial").glob("*.h5ad"))


@pytest.mark.skipif(not FILES, reason="shared data are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_tissue_is_read_as_what_it_is(path):
    adata = anndata.read_h5ad(path)
    data = fimp.data.load_cells(path, fimp.data.CellOptions(genes=adata.n_vars))
    assert data.num_nodes == adata.n_obs
    assert data.gene_names == list(adata.var_names)
    assert (data.scale is not None) == bool(adata.uns["x_is_raw_counts"])
    assert data.edge_index.size(1) == 8 * adata.n_obs
    assert np.array_equal(data.pos.numpy(), adata.obsm["spatial"])
    if data.scale is not None:
        total, counts = (
            np.expm1(data.x.to_dense().numpy().astype(np.float64)).sum(1),
            np.asarray(adata.X.sum(1)).ravel(),
        )
        heard = counts >= 10
        assert total[heard] == pytest.approx(np.full(heard.sum(), np.median(counts[heard])), rel=1e-4)
        assert (total[~heard] == 0).all()


@pytest.mark.skipif(not FILES, reason="shared data are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_little_training_beats_the_mean(path):
    models = {name: fimp.ExpressionModel(path, model=name) for name in ("mean", "gcn")}
    # Ten epochs of a few hundred spots are ten steps.
    epochs = max(10, 100 * 256 // models["mean"].data.num_nodes)
    r2 = {name: model.fit(max_epochs=epochs).evaluate()["r2"] for name, model in models.items()}
    assert r2["gcn"] > r2["mean"] + 0.01
    assert np.isfinite(r2["mean"])


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="shared data are not here")
def test_a_gaussian_predicts_real_recordings_and_interpolation_does_not():
    data = read_recording_graph(RECORDINGS, RecordingOptions())
    assert data.num_nodes == 94
    tested = set()
    for seed in range(3):
        task = FMRITask(data, seed=seed)
        assert task.data.num_nodes == 9 * 94
        tested |= set(task.windows.places.recording[task.split["test"] // 94].tolist())
        scores = {}
        for name in ("mean", "interpolate", "gaussian"):
            choice = resolve(name)
            scores[name] = evaluate(task, choice, task.network(choice), task.split["test"], TrainOptions(device="cpu"))
        assert abs(scores["mean"]["r2"]) < 0.01
        assert scores["interpolate"]["r2"] < 0.0
        assert 0.2 < scores["gaussian"]["r2"] < 0.5
    assert len(tested) == 3
