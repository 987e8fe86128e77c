import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture
def script(monkeypatch):
    """Imports a benchmark as its command would: beside what the benchmarks share."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))

    def load(name, *arguments):
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        return module

    yield load
    for name in ("common", "disk_memory", "edge_attention", "foundation", "scaling", "training"):
        sys.modules.pop(name, None)
