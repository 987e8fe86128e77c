import numpy as np
import pytest

from fimp.data import read_recordings, simulate
from fimp.data.simulated_recordings import folder_of
from fimp.errors import FIMPError


def test_files_hold_what_the_simulator_makes(tmp_path):
    folder = simulate.recordings(tmp_path / "made", n_subjects=3, n_regions=5, n_times=30, seed=2)
    found = read_recordings(folder)
    assert [item.subject for item in found.recordings] == ["sub-01", "sub-02", "sub-03"]
    for number, item in enumerate(found.recordings):
        wanted = simulate.recording(5, 30, seed=2, subject=number)
        np.testing.assert_array_equal(item.signal, wanted.signal)
        np.testing.assert_array_equal(item.structural, wanted.connectome)
        np.testing.assert_allclose(found.regions.xyz, wanted.xyz, atol=1e-3)
        assert item.tr == 2.0


def test_a_folder_of_the_name_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "simulated_recordings").mkdir()
    assert str(folder_of("simulated_recordings")) == "simulated_recordings"
    assert folder_of("elsewhere").name == "elsewhere"


def test_impossible_sizes_and_places_are_one_line(tmp_path):
    with pytest.raises(FIMPError, match="n_subjects=0"):
        simulate.recordings(tmp_path, n_subjects=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(FIMPError, match="cannot be written"):
        simulate.recordings(tmp_path / "file", n_subjects=1, n_regions=3, n_times=10)
