import json
import sys

import pytest


@pytest.fixture
def foundation(script, monkeypatch, tmp_path):
    module = script("foundation", "--json", tmp_path / "out.json", "--sizes", "6,2,3,8,2,12,2")
    for name, value in (("SECONDS", 0.0), ("SIDE", 64), ("LEAST_ROUNDS", 1)):
        monkeypatch.setattr(sys.modules["common"], name, value)
    return module


def test_it_prints_its_table_and_writes_it(foundation, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(foundation, "peak_memory", lambda script, way, *size: 2.0 if way == "final" else 3.0)
    foundation.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert [size["pass"] for size in found["sizes"]] == ["forward", "forward + backward"]
    forward, both = (size["ways"] for size in found["sizes"])
    assert set(forward) == {"final", "final, told", "layer", "layer, told", "naive"}
    assert set(both) == {"final", "layer", "naive"}
    for ways in (forward, both):
        assert ways["final"]["time_ratio"] == 1.0
        assert ways["naive"]["memory_ratio"] == 1.5
        # The naive way and what was told before give the same messages.
        for way in set(ways) - {"final", "layer"}:
            assert ways[way]["difference"] < 1e-5
        for row in ways.values():
            assert row["seconds"] > 0
            assert row["share_of_matmul"] > 0
    assert found["sizes"][0]["matmul_flops_per_second"] > 0
    assert "| (6, 2, 3, 8, 2, 12, 2) | forward | naive |" in capsys.readouterr().out


def test_useful_operations_are_those_of_the_cost_model(foundation):
    size = foundation.Size(nodes=10, degree=8, tokens=3, width=4, heads=2, hidden=5, layers=1)
    keys_and_values, query_and_output, network, attention = 10 * 3 * 64, 3 * 64, 3 * 80, 80 * 4 * 9 * 4
    assert size.flops("final", False) == keys_and_values + 80 * (query_and_output + network) + attention
    assert size.flops("layer, told", False) == 10 * (query_and_output + network) + attention
    assert size.flops("naive", False) == size.flops("final", False)
    linear = size.flops("layer", False) - attention
    assert size.flops("layer", True) == 3 * linear + 3.5 * attention


def test_peaks_of_memory_are_those_of_fresh_processes(foundation):
    size = foundation.Size(16, 4, 16, 32, 2, 64, 2)
    peak = foundation.peak_memory(foundation.__file__, "naive", 0, *size)
    assert peak is None or 0.5 < peak < 100
