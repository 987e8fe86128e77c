import json
import sys
import time

import pytest


def test_states_in_a_file_give_what_states_in_memory_give(script, tmp_path):
    scaling = script("scaling")
    inside, outside = (scaling.Measurement(400, "near", budget, str(tmp_path)).run() for budget in ("1GiB", "4MiB"))
    assert (inside["file"], outside["file"]) == (False, True)
    assert outside["sum"] == pytest.approx(inside["sum"], rel=1e-5)
    assert inside["wall"] > 0 < inside["cpu"]


def test_what_is_measured_meanwhile_does_not_count(script, tmp_path, monkeypatch):
    scaling = script("scaling")
    monkeypatch.setattr(scaling, "SLICE", 0.05)
    pauses = []
    with scaling.Worker([5_000, "near", "1GiB", tmp_path], threads=1) as worker:
        begin = time.perf_counter()
        found = worker.run(lambda: pauses.append(time.sleep(0.3)))
        passed = time.perf_counter() - begin
        alone, rate = worker.run(), worker.rate()
    assert len(pauses) > 0
    assert found["wall"] + 0.3 * len(pauses) <= passed
    # It was held: processor time needs no more of the clock than without pauses, within what a busy machine adds.
    assert found["cpu"] <= 1.1 * found["wall"] + 0.1
    assert found["sum"] == alone["sum"]
    assert rate > 0


class Here:
    """A worker in this process."""

    def __init__(self, arguments, threads, processes=1):
        self.measurement = sys.modules["scaling"].Measurement(*arguments)

    def run(self, meanwhile=lambda: None):
        meanwhile()
        return self.measurement.run()

    def rate(self):
        return 1e15

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_it_prints_its_tables_and_writes_them(script, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    scaling = script("scaling", "--nodes", 100, 200, "--tmp", tmp_path, "--json", out)
    monkeypatch.setattr(scaling, "Worker", Here)
    scaling.main()
    found = json.loads(out.read_text())
    assert [(row["nodes"], row["edges"]) for row in found["sizes"]] == [(100, "near"), (200, "near"), (200, "random")]
    assert found["sizes"][0]["cpu_ratio"] == 1.0
    assert all(0 < row["share_of_matmul"] < 1 for row in found["sizes"])
    # Before, meanwhile and afterwards.
    assert [len(row["around"]["wall"]) for row in found["sizes"]] == [5, 3, 3]
    assert [row["processes"] for row in found["processes"]] == [1, 2]
    text = capsys.readouterr().out
    assert "| 200 | random |" in text
    assert "| processes | seconds |" in text
