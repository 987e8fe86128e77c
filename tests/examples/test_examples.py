"""The notebooks run as they stand, but for sizes, and become notebooks."""

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.image import imread

import fimp

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Constants of the first cell, small enough for a test.
SMALL = {
    "tissue": {"CELLS": "90", "EPOCHS": "1"},
    "images": {"PLACES": "60", "EPOCHS": "1"},
    "recordings": {"SUBJECTS, REGIONS, VOLUMES": "3, 8, 170", "EPOCHS": "1"},
}
#: Figures that each draws, and what it writes.
DRAWN = {"tissue": 5, "images": 4, "recordings": 2}
WRITTEN = {"tissue": "tissue_model", "images": "image_model", "recordings": "recording_model"}


def own_data(name):
    """A file of the user's, and the constant that takes it."""
    if name == "tissue":
        adata = fimp.data.simulate.tissue(n_cells=70, n_genes=8, n_pairs=2)
        del adata.uns["planted_pairs"]
        adata.write_h5ad("own.h5ad")
        return {"FILE": "'own.h5ad'"}
    if name == "images":
        return {"FILE": repr(str(fimp.data.simulate.images("own", n_places=60, labelled=0.8, seed=1)))}
    folder = fimp.data.simulate.recordings("own", n_subjects=3, n_regions=6, n_times=170)
    return {"FOLDER": repr(str(folder))}


def source(name, constants):
    """A notebook's text with other constants."""
    text = (EXAMPLES / f"{name}.py").read_text()
    for constant, value in constants.items():
        text, count = re.subn(rf"^{re.escape(constant)} = [^#\n]*", f"{constant} = {value}  ", text, flags=re.MULTILINE)
        assert count == 1, constant
    return text


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Figures that were shown, as files."""
    found = []

    def show(*_, **__):
        for number in plt.get_fignums():
            found.append(tmp_path / f"shown-{len(found)}.png")
            plt.figure(number).savefig(found[-1], dpi=80)
        plt.close("all")

    matplotlib.use("Agg")
    monkeypatch.setattr(plt, "show", show)
    yield found
    plt.close("all")


@pytest.mark.parametrize("own", [False, True], ids=["simulated", "own"])
@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name, own, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    constants = SMALL[name] | (own_data(name) if own else {})
    before = set(tmp_path.iterdir())
    exec(compile(source(name, constants), f"{name}.py", "exec"), {"__name__": "__main__"})
    assert len(shown) == DRAWN[name]
    assert all(imread(path)[..., :3].std() > 0.02 for path in shown)
    assert tmp_path / WRITTEN[name] in set(tmp_path.iterdir()) - before


@pytest.mark.parametrize("name", SMALL)
def test_it_becomes_a_notebook(name, tmp_path):
    jupytext = pytest.importorskip("jupytext")
    nbformat = pytest.importorskip("nbformat")
    text = (EXAMPLES / f"{name}.py").read_text()
    notebook = jupytext.reads(text, fmt="py:percent")
    jupytext.write(notebook, tmp_path / f"{name}.ipynb")
    read = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    nbformat.validate(read)
    assert read.metadata.kernelspec.name == "python3"
    kinds = [cell.cell_type for cell in read.cells]
    assert kinds[0] == "markdown"
    assert kinds.count("code") >= 8
    # What a user points at a file of their own stands in the first cell of code.
    first = read.cells[kinds.index("code")].source
    assert all(f"{constant} = " in first for constant in SMALL[name])
    assert re.search(r"^(FILE|FOLDER) = None", first, re.MULTILINE)


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SMALL)
