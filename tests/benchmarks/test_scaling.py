import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

_path = Path(__file__).parents[2] / "benchmarks" / "scaling.py"
_spec = importlib.util.spec_from_file_location("scaling", _path)
scaling = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scaling)


def test_states_in_a_file_give_what_states_in_memory_give(tmp_path):
    inside, outside = (scaling.Measurement(400, "near", budget, str(tmp_path)).run() for budget in ("1GiB", "4MiB"))
    assert (inside["file"], outside["file"]) == (False, True)
    assert outside["sum"] == pytest.approx(inside["sum"], rel=1e-5)
    assert inside["wall"] > 0 < inside["cpu"]


def test_what_is_measured_meanwhile_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "SLICE", 0.05)
    pauses = []
    with scaling.Worker([20_000, "near", "1GiB", tmp_path], threads=1) as worker:
        begin = time.perf_counter()
        found = worker.run(lambda: pauses.append(time.sleep(0.3)))
        passed = time.perf_counter() - begin
        alone = worker.run()
    assert len(pauses) > 0
    assert found["wall"] + 0.3 * len(pauses) <= passed
    # It was held: processor time needs no more of the clock than without pauses, within what a busy machine adds.
    assert found["cpu"] <= 1.1 * found["wall"] + 0.1
    assert found["sum"] == alone["sum"]


class Here:
    """A worker in this process."""

    def __init__(self, arguments, threads, processes=1):
        self.measurement = scaling.Measurement(*arguments)

    def run(self, meanwhile=lambda: None):
        meanwhile()
        return self.measurement.run()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_it_prints_its_tables_and_writes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "Worker", Here)
    out = tmp_path / "out.json"
    monkeypatch.setattr(
        sys, "argv", ["scaling.py", "--nodes", "100", "200", "--tmp", str(tmp_path), "--json", str(out)]
    )
    scaling.main()
    found = json.loads(out.read_text())
    assert [(row["nodes"], row["edges"]) for row in found["sizes"]] == [(100, "near"), (200, "near"), (200, "random")]
    assert found["sizes"][0]["cpu_ratio"] == 1.0
    # Before, meanwhile and afterwards.
    assert [len(row["around"]["wall"]) for row in found["sizes"]] == [5, 3, 3]
    assert [row["processes"] for row in found["processes"]] == [1, 2]
    text = capsys.readouterr().out
    assert "| 200 | random |" in text
    assert "| processes | seconds |" in text
