"""Memory of exporting attention: what grows with the number of edges, and what does not.

    python benchmarks/attention_memory.py --cells 1250 12500

Makes cells that express 200 genes, each with its 8 nearest neighbours, so that a cell has 50 hidden and 50 visible
tokens: every edge is an attention of 50 x 50 tokens. In a fresh process each, measures the peak resident memory of an
untrained ``fimp-base`` before attention is exported (imports, data, weights) and of exporting it over all edges
(:func:`fimp.analysis.gene_attention`, one draw). Prints a table, with what holding all edges' attention at once would
take. Times depend on what else the machine does; memory hardly.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

GENES, TOKENS, NEIGHBORS = 200, 100, 8


def cells(count: int) -> Any:
    """An AnnData of ``count`` cells at random places, in which all genes are expressed."""
    import anndata
    import pandas as pd
    from scipy import sparse

    generator = np.random.default_rng(0)
    counts = 1 + generator.poisson(3.0, (count, GENES))
    names = pd.DataFrame(index=[f"gene{gene}" for gene in range(GENES)])
    adata = anndata.AnnData(sparse.csr_matrix(counts, dtype=np.float32), var=names)
    adata.obsm["spatial"] = generator.uniform(0.0, 10.0 * count**0.5, (count, 2))
    return adata


def measure(count: int) -> dict[str, float]:
    """Edges, pairs of tokens, peak memory in MB before and while attention is exported, and seconds."""
    import fimp
    from fimp.analysis import gene_attention
    from fimp.train.peak_memory import peak_memory_mb, reset_peak_memory

    model = fimp.ExpressionModel(cells(count), neighbors=NEIGHBORS, tokens=TOKENS, mask_ratio=0.5, device="cpu")
    before = peak_memory_mb()
    reset_peak_memory()
    begun = time.monotonic()
    found = gene_attention(model, draws=1)
    seconds = time.monotonic() - begun
    edges = model.data.edge_index.size(1)
    pairs = float(found.count.sum()) / edges
    return {"edges": edges, "pairs": pairs, "before": before, "peak": peak_memory_mb(), "seconds": seconds}


def main() -> None:
    """Measure in fresh processes, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1_250, 12_500])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        sys.stdout.write(json.dumps(measure(chosen.measure)) + "\n")
        return
    titles = ("edges", "pairs of tokens per edge", "before, MB", "peak, MB", "all edges at once, MB", "s")
    sys.stdout.write(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
    for count in chosen.cells:
        command = [sys.executable, __file__, "--measure", str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        whole = found["edges"] * found["pairs"] * 4 / 2**20
        row = (found["edges"], found["pairs"], found["before"], found["peak"], whole, found["seconds"])
        sys.stdout.write(f"| {' | '.join(f'{value:,.0f}' for value in row)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
