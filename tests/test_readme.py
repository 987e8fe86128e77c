"""Python in the README runs as it is printed, on a small file and for one epoch."""

import re
from pathlib import Path

import pytest

import fimp

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fimp.data.simulate.tissue(n_cells=60, n_genes=10, n_pairs=2).write_h5ad("FILE.h5ad")
    exec(compile(block.replace("max_epochs=50", "max_epochs=1"), "README.md", "exec"), {})


def test_there_are_blocks():
    assert len(BLOCKS) >= 2
