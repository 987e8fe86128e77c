"""``fimp demo``: the main job on data that needs no download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("fimp_results/demo"),
    max_minutes: Annotated[float, typer.Option(help="Time for the whole command.")] = 3.4,
) -> None:
    """Compare models on a simulated tissue with planted cell-to-cell signals, and look for the signals."""
    started = time.monotonic()

    from rich.console import Console

    from fimp.analysis.attention import gene_attention
    from fimp.cli.compare import compare, deadline_of
    from fimp.cli.setups import SETUPS
    from fimp.data.simulate import tissue
    from fimp.estimators import ExpressionModel

    console = Console()
    console.print(
        "A simulated tissue: receptor genes follow the ligand genes of neighbouring cells, so whoever does not "
        "look at neighbours cannot predict them.\n",
        markup=False,
    )
    # The attention analysis and the imports before this line are paid for here.
    deadline = deadline_of(max_minutes, started)
    assert deadline is not None
    compare(
        SETUPS["expression"](data=["simulated"]),
        models="mean,mlp,gcn,fimp-base:no-edges,fimp-base",
        seeds=1,
        max_minutes=max(0.1, (deadline - time.monotonic()) / 60.0 - 0.3),
        out=out,
    )
    pairs = tissue().uns["planted_pairs"]
    found = gene_attention(ExpressionModel.load(out / "runs" / "fimp-base" / "seed0"), draws=1)
    auroc = found.auroc(pairs["receptor"], pairs["ligand"])
    console.print(
        f"\nPlanted ligand-receptor pairs against all other gene pairs in fimp-base's attention: AUROC {auroc:.2f}",
        markup=False,
        highlight=False,
    )
    console.print(f"Next: look at {out / 'results.png'}, then run it on your own tissue:", markup=False)
    console.print(
        "  fimp compare expression --data FILE.h5ad --models mean,gcn,fimp-base", markup=False, highlight=False
    )
