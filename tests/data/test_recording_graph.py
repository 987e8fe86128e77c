import numpy as np
import pytest
import torch

from fimp.data import simulate
from fimp.data.graphs import knn_graph
from fimp.data.recording_graph import (
    RecordingOptions,
    correlation,
    in_every_window,
    measured_edges,
    profiles,
    read_recording_graph,
    strongest,
)
from fimp.errors import FIMPError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate.recordings(tmp_path_factory.mktemp("recordings"), n_subjects=2, n_regions=9, n_times=60)


def test_the_graph_of_the_regions(folder):
    data = read_recording_graph(folder, RecordingOptions(window=20, patch=5, neighbors=3))
    assert data.num_nodes == 9
    assert torch.equal(data.edge_index, knn_graph(data.recordings.regions.xyz, 3))
    assert data.notes[0] == "2 recordings of 2 subjects, 9 regions"
    measured = read_recording_graph(folder, RecordingOptions(window=20, patch=5, graph="functional"))
    assert measured.edge_index.size(1) == 0


def test_other_recordings_must_be_of_the_same_regions(folder, tmp_path):
    options = RecordingOptions(window=20, patch=5, neighbors=3)
    reference = read_recording_graph(folder, options).reference
    assert read_recording_graph(folder, options, reference).num_nodes == 9
    other = simulate.recordings(tmp_path / "other", n_subjects=2, n_regions=8, n_times=60)
    with pytest.raises(FIMPError, match="8 regions that are not the 9 that the model was trained on"):
        read_recording_graph(other, options, reference)


def test_a_band_is_kept_where_the_time_of_a_volume_is_known(folder, tmp_path):
    reading = {"window": 20, "patch": 5, "neighbors": 3, "band_pass": [0.01, 0.1]}
    options = RecordingOptions(**reading)
    assert options.band_pass == (0.01, 0.1)
    assert (
        "band-pass filter: 0.01 to 0.1 Hz, each stretch of a split by itself"
        in read_recording_graph(folder, options).notes
    )
    with pytest.raises(
        FIMPError, match=r"ends at or above 0\.25 Hz, half of the sampling frequency with 2 s per volume"
    ):
        read_recording_graph(folder, RecordingOptions(**{**reading, "band_pass": (0.1, 0.3)}))
    (tmp_path / "regions.csv").write_text((folder / "regions.csv").read_text())
    np.save(tmp_path / "a.npy", np.load(folder / "sub-01.npz")["signal"])
    with pytest.raises(FIMPError, match=r"a\.npy: does not say how many seconds a volume takes"):
        read_recording_graph(tmp_path, options)
    data = read_recording_graph(tmp_path, RecordingOptions(**reading, tr=0.8))
    assert [item.tr for item in data.recordings.recordings] == [0.8]
    # What a file says counts.
    data = read_recording_graph(folder, RecordingOptions(**reading, tr=0.8))
    assert {item.tr for item in data.recordings.recordings} == {2.0}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"tr": 0.0}, "--tr: 0.0"),
        ({"band_pass": (0.1,)}, "wanted two frequencies"),
        ({"band_pass": (2, 1)}, "is no band"),
    ],
)
def test_options_out_of_range(option, words):
    with pytest.raises(FIMPError, match=words):
        RecordingOptions(**option)


def test_the_named_recordings_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = RecordingOptions(window=40, patch=10)
    first = read_recording_graph("simulated_recordings", options)
    (made,) = tmp_path.rglob("regions.csv")
    stamp = made.stat().st_mtime_ns
    again = read_recording_graph("simulated_recordings", options)
    assert made.stat().st_mtime_ns == stamp
    for one, other in zip(first.recordings.recordings, again.recordings.recordings, strict=True):
        np.testing.assert_array_equal(one.signal, other.signal)
    assert len({item.subject for item in first.recordings.recordings}) == 4


def test_strongest_ties_are_of_others_and_real():
    strength = np.array([[9.0, 1.0, 2.0], [0.0, 9.0, 0.0], [3.0, 4.0, 9.0]])
    assert strongest(strength, 1).T.tolist() == [[2, 0], [1, 2]]
    assert strongest(strength, 5).T.tolist() == [[2, 0], [1, 0], [1, 2], [0, 2]]


def test_functional_neighbours_correlate_whatever_the_sign(folder):
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((4, 500))
    signal[1] = -signal[0] + 0.1 * rng.standard_normal(500)
    signal[2] = 0.0
    options = RecordingOptions(graph="functional", neighbors=1)
    edges = measured_edges(options, [signal[:, :200], 100.0 * signal[:, 200:]], [])
    assert [0, 1] in edges.T.tolist()
    assert [1, 0] in edges.T.tolist()
    assert 2 not in edges.flatten().tolist()


def test_structural_neighbours_are_connected_most(folder):
    data = read_recording_graph(folder, RecordingOptions(window=20, patch=5, graph="structural", neighbors=2))
    items = data.recordings.recordings
    ties = items[0].structural + items[0].structural.T
    np.fill_diagonal(ties, 0.0)
    edges = measured_edges(data.reading, [], items)
    for region in range(9):
        assert set(edges[0, edges[1] == region].tolist()) == set(np.argsort(-ties[region])[:2].tolist())
    with pytest.raises(FIMPError, match="no training recording has connections"):
        measured_edges(data.reading, [], [])


def test_profiles_are_factors_of_the_correlation():
    signal = np.random.default_rng(0).standard_normal((5, 5)) @ np.random.default_rng(1).standard_normal((5, 300))
    found = profiles([signal], 8)
    assert found.shape == (5, 8)
    assert (found[:, 5:] == 0).all()
    np.testing.assert_allclose(found @ found.T, correlation(signal), atol=1e-5)
    np.testing.assert_allclose(profiles([signal], 2), found[:, :2], atol=1e-6)


def test_every_window_has_the_graph_to_itself():
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    out = in_every_window(edges, 3, 2)
    assert sorted(out.T.tolist()) == [[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 3]]
    assert in_every_window(edges[:, :0], 3, 2).shape == (2, 0)
