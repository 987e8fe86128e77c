"""The GPU benchmark of edge attention, as far as a machine without one can run it."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from fimp.ops import edge_attention

PATH = Path(__file__).parents[1] / "benchmarks" / "gpu_edge_attention.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_one_line_says_so(benchmark, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", [PATH.name, "--json", str(tmp_path / "rows.json")])
    assert benchmark.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "found no GPU" in err
    assert not (tmp_path / "rows.json").exists()


def test_what_is_compared_with_computes_the_same(benchmark):
    query, key, value = torch.randn(3, 5, 2, 4, 8, dtype=torch.float64)
    dst = torch.arange(5).repeat_interleave(benchmark.DEGREE)
    edge_index = torch.stack([torch.randint(5, dst.shape), dst])
    torch.testing.assert_close(
        benchmark.gathered(query, key, value, edge_index), edge_attention(query, key, value, edge_index)
    )
