import json
import sys


def test_it_prints_its_tables_and_writes_them(script, monkeypatch, capsys, tmp_path):
    module = script("edge_attention", "--json", tmp_path / "out.json")
    for name, value in (("SECONDS", 0.0), ("SIDE", 64), ("LEAST_ROUNDS", 1)):
        monkeypatch.setattr(sys.modules["common"], name, value)
    size = module.Size(6, 2, 3, 8, 2)
    monkeypatch.setattr(module, "SIZES", (size,))
    monkeypatch.setattr(module, "SHARES", (size,))
    monkeypatch.setattr(module, "peak_memory", lambda script, way, *size: 1.0 if way == "fimp" else 2.0)
    module.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found) == {"torch", "threads", "sizes", "summary", "shares"}
    ways = found["sizes"][0]["ways"]
    assert set(ways) == set(module.WAYS)
    assert (ways["fimp"]["time_ratio"], ways["authors"]["memory_ratio"]) == (1.0, 2.0)
    assert found["summary"]["authors"]["memory_ratio_least"] == 2.0
    assert found["shares"][0]["layer"] > 0
    assert "| (6, 2, 3, 8, 2) | authors |" in capsys.readouterr().out


def test_peaks_of_memory_are_those_of_fresh_processes(script):
    module = script("edge_attention")
    peak = module.peak_memory(module.__file__, "authors", 16, 4, 16, 32, 2)
    assert peak is None or 0.1 < peak < 100
