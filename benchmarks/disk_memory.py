"""Peak memory and time of embedding cells whose values stay on disk, against the same in memory.

    python benchmarks/disk_memory.py [--cells N] [--genes G] [--model NAME] [--forms NAMES] [--tmp FOLDER] [--json FILE]

Simulated counts (one value in six is not zero) at random places, stored dense, by rows (csr), by columns (csc) and by
rows in zarr. A model trained for an epoch on 60 other cells embeds them in a process of its own, which has embedded the
60 before: once with all the memory it wants, once with a budget of 1 MB (`FIMP_MEMORY_BUDGET`). Seconds are those of
reading and embedding by the clock; the peak is that of resident memory above what the process held before. The
embeddings must be the same to the digit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import resident, show, versions

FORMS = ("dense", "csr", "csc", "zarr")
BUDGETS = {"memory": "1TB", "disk": "1MB"}
_PART = 1000


def write_cells(path: Path, form: str, cells: int, genes: int) -> Path:
    """Cells in a file, of which one part of a thousand cells is drawn, and turned for every other."""
    import anndata
    import pandas as pd
    from scipy import sparse

    generator = np.random.default_rng(0)
    obs = pd.DataFrame(index=np.arange(cells).astype(str))
    adata = anndata.AnnData(obs=obs, var=pd.DataFrame(index=[f"gene{index}" for index in range(genes)]))
    adata.obsm["spatial"] = generator.uniform(size=(cells, 2))
    part = generator.poisson(0.2, (min(_PART, cells), genes)).astype(np.float32)
    if form == "dense":
        import h5py

        adata.write_h5ad(path)
        with h5py.File(path, "a") as file:
            x = file.create_dataset("X", (cells, genes), np.float32)
            x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            for start in range(0, cells, _PART):
                x[start : start + _PART] = np.roll(part, start // _PART, axis=1)[: cells - start]
        return path
    parts = [sparse.csr_matrix(np.roll(part, number, axis=1)) for number in range(-(-cells // _PART))]
    adata.X = sparse.vstack(parts, format="csc" if form == "csc" else "csr")[:cells]
    (adata.write_zarr if form == "zarr" else adata.write_h5ad)(path)
    return path


def measure(run: str, data: str, out: str) -> dict[str, float]:
    """Seconds and peak of embedding cells; in a process of its own."""
    import fimp

    fimp.load(run).embed()
    Path("/proc/self/clear_refs").write_text("5")
    before, begun = resident("VmRSS"), time.perf_counter()
    np.save(out, fimp.load(run, data).embed())
    return {"seconds": time.perf_counter() - begun, "peak_mb": resident("VmHWM") - before}


def fresh(budget: str, *arguments: object) -> dict[str, float]:
    """What :func:`measure` finds in a process of its own with a budget of memory."""
    environment = {**os.environ, "FIMP_MEMORY_BUDGET": budget, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(folder: Path, forms: list[str], cells: int, genes: int, model: str) -> dict[str, Any]:
    """Measure all forms, print and return the table."""
    import fimp

    write_cells(folder / "few.h5ad", "csr", 60, genes)
    trained = fimp.ExpressionModel(folder / "few.h5ad", model=model, dim=16, genes=genes).fit(max_epochs=1)
    trained.save(folder / "run")
    rows: dict[str, Any] = {}
    for form in forms:
        path = write_cells(folder / f"many.{'zarr' if form == 'zarr' else 'h5ad'}", form, cells, genes)
        size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()) / 1e6
        row: dict[str, Any] = {"file_mb": size}
        for where, budget in BUDGETS.items():
            row[where] = fresh(budget, folder / "run", path, folder / f"{where}.npy")
        embedded = [np.load(folder / f"{where}.npy") for where in BUDGETS]
        row["same"] = bool(np.array_equal(*embedded))
        rows[form] = row
        numbers = (f"{row[where][key]:.1f}" for where in BUDGETS for key in ("seconds", "peak_mb"))
        show(form, f"{size:.0f}", *numbers, "yes" if row["same"] else "NO")
    return rows


def main() -> None:
    """Measure, print, and write what was printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=25_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--model", default="gcn")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--tmp", help="folder for the files; by default that for temporary files")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        sys.stdout.write(json.dumps(measure(*chosen.measure)) + "\n")
        return
    sys.stdout.write(f"{chosen.cells:,} cells, {chosen.genes:,} genes, {chosen.model}\n\n")
    show("stored", "MB of the file", "s in memory", "peak MB", "s on disk", "peak MB", "same digits")
    show(*["---"] * 7)
    with tempfile.TemporaryDirectory(dir=chosen.tmp, prefix="fimp-") as folder:
        rows = compare(Path(folder), chosen.forms.split(","), chosen.cells, chosen.genes, chosen.model)
    if chosen.json:
        from fimp.train.runs import write_json

        write_json(chosen.json, {**versions(), "cells": chosen.cells, "genes": chosen.genes, "forms": rows})


if __name__ == "__main__":
    main()
