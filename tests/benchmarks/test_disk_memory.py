import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system keeps no peak of memory")


def found_by(script, tmp_path, *arguments):
    module = script("disk_memory", "--tmp", tmp_path, "--json", tmp_path / "out.json", *arguments)
    module.main()
    return json.loads((tmp_path / "out.json").read_text())


def test_memory_is_that_of_batches_where_values_stay_on_disk(script, capsys, tmp_path):
    # 120 MB of single precision.
    found = found_by(script, tmp_path, "--cells", 15_000, "--model", "mlp", "--forms", "dense")["forms"]["dense"]
    assert found["file_mb"] > 120
    assert found["disk"]["peak_mb"] < 100 < found["memory"]["peak_mb"]
    assert found["same"]
    assert "| dense | 12" in capsys.readouterr().out


def test_every_way_of_storing_is_measured(script, monkeypatch, tmp_path):
    module = script("disk_memory")
    numbers = iter([3.0, 1.0] * 4)

    def here(budget, *arguments):
        monkeypatch.setenv("FIMP_MEMORY_BUDGET", budget)
        return {**module.measure(*map(str, arguments)), "peak_mb": next(numbers)}

    monkeypatch.setattr(module, "fresh", here)
    found = found_by(script, tmp_path, "--cells", 1100, "--genes", 30)
    assert set(found["forms"]) == {"dense", "csr", "csc", "zarr"}
    for row in found["forms"].values():
        assert row["same"]
        assert (row["memory"]["peak_mb"], row["disk"]["peak_mb"]) == (3.0, 1.0)
        assert row["disk"]["seconds"] > 0
