import importlib.util
import json
import sys
from pathlib import Path

import pytest

_path = Path(__file__).parents[2] / "benchmarks" / "scaling.py"
_spec = importlib.util.spec_from_file_location("scaling", _path)
scaling = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scaling)


def test_states_in_a_file_give_what_states_in_memory_give(tmp_path):
    inside, outside = (scaling.measure(400, "near", budget, str(tmp_path)) for budget in ("1GiB", "4MiB"))
    assert (inside["file"], outside["file"]) == (False, True)
    assert outside["sum"] == pytest.approx(inside["sum"], rel=1e-5)
    assert inside["wall"] > 0 < inside["cpu"]


def test_it_prints_its_tables_and_writes_them(tmp_path, monkeypatch, capsys):
    def here(arguments, threads, processes=1):
        return scaling.measure(int(arguments[0]), *arguments[1:])

    monkeypatch.setattr(scaling, "fresh", here)
    out = tmp_path / "out.json"
    monkeypatch.setattr(
        sys, "argv", ["scaling.py", "--nodes", "100", "200", "--tmp", str(tmp_path), "--json", str(out)]
    )
    scaling.main()
    found = json.loads(out.read_text())
    assert [(row["nodes"], row["edges"]) for row in found["sizes"]] == [(100, "near"), (200, "near"), (200, "random")]
    assert found["sizes"][0]["cpu_ratio"] == 1.0
    assert [row["processes"] for row in found["processes"]] == [1, 2]
    text = capsys.readouterr().out
    assert "| 200 | random |" in text
    assert "| processes | seconds |" in text
