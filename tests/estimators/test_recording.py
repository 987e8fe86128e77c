import numpy as np
import pytest
import torch

import fimp
from fimp.errors import FIMPError
from fimp.foundation.brainlm_files import new_brainlm, save_brainlm

R, T = 8, 95
OPTIONS = {"window": 40, "patch": 5, "neighbors": 3, "batch_size": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fimp.data.simulate.recordings(tmp_path_factory.mktemp("recordings"), n_subjects=3, n_regions=R, n_times=T)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A shorter recording of the same regions, too short to be split by time."""
    return fimp.data.simulate.recordings(tmp_path_factory.mktemp("other"), n_subjects=1, n_regions=R, n_times=70)


@pytest.fixture(scope="module", params=["mean", "gaussian", "sage+interpolate", "fimp-base"])
def model(request, folder):
    return fimp.RecordingModel(folder, model=request.param, dim=16, **OPTIONS).fit(max_epochs=2)


def test_the_notebook_interface(model, folder):
    assert set(model.evaluate()) == {"mse", "r2"}
    assert "3 recordings of 3 subjects, 8 regions" in repr(model)
    files = [str(folder / f"sub-0{number}.npz") for number in (1, 2, 3)]
    assert model.parts == {"train": [files[1]], "val": [files[2]], "test": [files[0]]}
    found = model.predict()
    assert [one.name for one in found] == files
    for one, file in zip(found, files, strict=True):
        np.testing.assert_allclose(one.signal, np.load(file)["signal"], rtol=1e-4, atol=1e-3)
        assert one.predicted.shape == one.hidden.shape == (R, T)
        assert one.predicted.dtype == one.signal.dtype == np.float32
        assert np.array_equal(one.predicted[~one.hidden], one.signal[~one.hidden])
        assert np.isfinite(one.predicted).all()
        assert not np.array_equal(one.predicted[one.hidden], one.signal[one.hidden])
        assert one.hidden.mean() == pytest.approx(0.75, abs=0.05)
        # Windows begin at 0, 40 and 55; of the last, the part that is new.
        patches = one.hidden[:, :80].reshape(R, 16, 5)
        assert (patches == patches[:, :, :1]).all()
        assert (patches[:, :8, 0].sum(1) == 6).all()


def test_scaled_predictions_are_what_scores_are_of(model, other):
    (one,) = model.predict(other, scaled=True)
    assert one.signal.shape == (R, 70)
    scale = model.task.windows.scale
    np.testing.assert_allclose(one.signal, scale.prepare(np.load(other / "sub-01.npz")["signal"]), atol=1e-6)
    (own,) = model.predict(other)
    ratio = (own.predicted - own.signal)[own.hidden] / (one.predicted - one.signal)[one.hidden]
    iqr = np.broadcast_to(scale.iqr[:, None], one.hidden.shape)[one.hidden]
    assert np.median(np.abs(ratio / iqr - 1)) < 1e-3
    assert set(model.evaluate(data=other)) == {"mse", "r2"}


def test_one_window_has_the_score_of_its_prediction(model, folder, tmp_path):
    with np.load(folder / "sub-01.npz") as stored:
        np.savez(tmp_path / "a.npz", signal=stored["signal"][:, :40])
    (tmp_path / "regions.csv").write_text((folder / "regions.csv").read_text())
    (one,) = model.predict(tmp_path / "a.npz", scaled=True)
    error = (one.predicted - one.signal)[one.hidden]
    assert model.evaluate(data=tmp_path / "a.npz")["mse"] == pytest.approx(float(np.square(error).mean()), rel=1e-4)


def test_embeddings_are_of_regions_in_windows(model, other):
    if model.config.model in ("mean", "gaussian"):
        with pytest.raises(FIMPError, match="no states"):
            model.embed()
        return
    assert model.embed().shape == (9, R, 16)
    found = model.embed(other)
    assert found.shape == (2, R, 16)
    assert np.isfinite(found).all()
    assert model.task_on(other).windows.places.start.tolist() == [0, 30]


def test_a_saved_model_is_used_on_other_recordings(model, folder, other, tmp_path):
    model.save(tmp_path / "run")
    loaded = fimp.load(tmp_path / "run")
    assert isinstance(loaded, fimp.RecordingModel)
    assert loaded.evaluate() == model.evaluate()
    for one, again in zip(model.predict(), loaded.predict(), strict=True):
        assert np.array_equal(one.predicted, again.predicted)
    used = fimp.load(tmp_path / "run", other)
    (one,), (again,) = model.predict(other), used.predict()
    assert np.array_equal(one.predicted, again.predicted)
    assert used.parts == {}
    assert used.evaluate(data=other) == model.evaluate(data=other)
    with pytest.raises(FIMPError, match="none of these recordings are"):
        used.evaluate()
    with pytest.raises(FIMPError, match="loaded for"):
        used.fit()


def test_a_model_in_batches_predicts_the_same(folder, monkeypatch):
    model = fimp.RecordingModel(folder, dim=16, **OPTIONS).fit(max_epochs=1)
    whole = model.predict(scaled=True)
    monkeypatch.setattr("fimp.train.loader.EVALUATION_BATCH", 5)
    for one, other in zip(whole, model.predict(scaled=True), strict=True):
        np.testing.assert_allclose(one.predicted, other.predicted, atol=1e-4)


def test_filtered_recordings_are_in_their_own_units(folder):
    options = {**OPTIONS, "model": "mean", "split": "time", "window": 20}
    plain, filtered = (fimp.RecordingModel(folder, **options, **more) for more in ({}, {"band_pass": (0.01, 0.1)}))
    assert plain.parts["train"] == plain.parts["test"]
    for one, other in zip(plain.predict(), filtered.predict(), strict=True):
        assert other.signal.mean() == pytest.approx(one.signal.mean(), rel=0.05)
        assert np.diff(other.signal).std() < 0.8 * np.diff(one.signal).std()
        assert not np.array_equal(one.signal, other.signal)


def test_regions_that_say_nothing_are_nan(folder, tmp_path):
    signal = np.load(folder / "sub-01.npz")["signal"].copy()
    signal[2], signal[5, 3] = 100.0, np.nan
    np.savez(tmp_path / "a.npz", signal=signal)
    (tmp_path / "regions.csv").write_text((folder / "regions.csv").read_text())
    model = fimp.RecordingModel(folder, model="gaussian", **OPTIONS).fit()
    (one,) = model.predict(tmp_path)
    (scaled,) = model.predict(tmp_path, scaled=True)
    for row in range(R):
        silent = row in (2, 5)
        assert np.isnan(one.predicted[row]).all() == np.isnan(one.signal[row]).all() == silent
        assert (scaled.signal[row] == 0).all() == silent


def test_a_brainlm_makes_messages(folder, other, tmp_path):
    torch.manual_seed(0)
    save_brainlm(new_brainlm(R, 40, patch=5, dim=8, layers=1, heads=2, hidden=8, decoder_layers=1), tmp_path / "fm")
    model = fimp.RecordingModel(folder, model=f"fimp:{tmp_path / 'fm'}", **OPTIONS).fit(max_epochs=1)
    (one,) = model.predict(other)
    assert np.isfinite(one.predicted).all()
    assert model.embed(other).shape == (2, R, 8)


def test_the_example_of_the_documentation():
    model = fimp.RecordingModel("simulated_recordings", model="sage", window=80, patch=10)
    assert np.isfinite(model.fit(max_epochs=5).evaluate()["r2"])
    one = model.predict()[0]
    assert one.signal.shape == (40, 400)
    assert ((one.predicted - one.signal)[one.hidden] ** 2).mean() > 0


def test_files_may_be_named_one_by_one(folder, tmp_path):
    files = sorted(folder.glob("*.npz"))
    model = fimp.RecordingModel(files[:2], model="mean", window=20, patch=5).fit()
    model.save(tmp_path / "run")
    assert [one.name for one in fimp.load(tmp_path / "run").predict()] == [str(path) for path in files[:2]]


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (np.zeros((8, 100)), {}, "data is a ndarray, wanted the path"),
        ([], {}, "data is a list, wanted the path"),
        ("nowhere", {}, "nowhere: no such file"),
        ("folder", {"colour": 1}, "option 'colour' is unknown; known are regions"),
        ("folder", {"window": 100}, "95 volumes, wanted at least a window of 100"),
        ("folder", {"band_pass": (0.1, 0.3), "window": 40}, "ends at or above 0.25 Hz"),
        ("folder", {"model": "expression"}, "expression"),
    ],
)
def test_what_cannot_be_used_is_refused(folder, data, options, words):
    source = folder if isinstance(data, str) and data == "folder" else data
    with pytest.raises(FIMPError, match=words):
        fimp.RecordingModel(source, **options)


def test_recordings_of_other_regions_are_refused(folder, tmp_path):
    model = fimp.RecordingModel(folder, model="mean", **OPTIONS).fit()
    fimp.data.simulate.recordings(tmp_path, n_subjects=1, n_regions=R + 1, n_times=T)
    with pytest.raises(FIMPError, match="9 regions that are not the 8"):
        model.predict(tmp_path)


def test_a_brainlm_of_whole_brains_is_used_on_other_recordings(folder, other, tmp_path):
    save_brainlm(new_brainlm(R, 40, patch=5, dim=8, layers=1, heads=2, hidden=8, decoder_layers=1), tmp_path / "fm")
    name = f"fm:{tmp_path / 'fm'},scope=graph"
    model = fimp.RecordingModel(folder, model=name, **OPTIONS).fit(max_epochs=1)
    assert model.embed(other).shape[1:] == (R, 8)
    assert np.isfinite(model.predict(other)[0].predicted).all()
