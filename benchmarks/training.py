"""How long models take to become as good as the best baseline.

    python benchmarks/training.py [--data FILE] [--models NAMES] [--steps N] [--repeats N] [--json FILE]

Masked expression on a simulated tissue, or on cells of a file. Every model gets the same split, masks, batches and
number of optimizer steps, without early stopping, and its own hyperparameters. The target is the best validation R2
that any baseline (a model whose name does not begin with `fimp`) reaches; what counts is the time at which a model's
validation R2 is first as high. Seconds are those of training and of validation, by the clock, from the start of the
run; loading data is not counted. A model that is never as good has no time. Those that pretrain (`graphmae`) do so
within their seconds, in addition to the steps.

Peak memory is what two epochs hold at most above what was held before, in a fresh process for each model, as in
`edge_attention.py`; its ratio is to the best baseline's. Operations are those of dense matrix products and of attention
that are done between the first validation and the last, counted in a short run of their own; the rate that they are
compared with is that of one large `torch.matmul` after the run.

With `--repeats`, models take turns, round after round. A seed repeats a run to the digit, so the least seconds of each
validation count: others on the machine can only slow it down.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Operations, held_by, matmul_rate, peak_memory, show, text, versions

from fimp.data import CellOptions, load_cells, simulate
from fimp.models import ModelChoice, resolve, resolve_all
from fimp.tasks import ExpressionOptions, ExpressionTask
from fimp.train import TrainOptions, evaluate, fit

MODELS = "mean,mlp,gcn,sage,gat,gin,gps,graphmae,fimp-base:no-edges,fimp-base"


def train(task: ExpressionTask, choice: ModelChoice, epochs: int, batch_size: int) -> dict[str, Any]:
    """Train a model; steps, and ``[seconds, R2]`` of every validation."""
    curve: list[list[float]] = []
    options = TrainOptions(epochs=epochs, batch_size=batch_size, patience=epochs + 1)
    begun = time.perf_counter()
    fitted = fit(task, choice, options, on_validation=lambda r2: curve.append([time.perf_counter() - begun, r2]))
    if not curve:
        # What is not trained is as good as it gets from the start.
        curve.append([0.0, evaluate(task, choice, fitted.network, task.split["val"], options)["r2"]])
    return {"steps": fitted.steps, "curve": curve, "matmul_flops_per_second": matmul_rate()}


def memory(task: ExpressionTask, choice: ModelChoice, batch_size: int) -> float:
    """MB that two epochs of training hold at most above what was held before; for a process of its own."""
    options = TrainOptions(epochs=2, batch_size=batch_size)

    def make(nodes: int) -> Callable[[], object]:
        # What is loaded once is loaded by another model.
        chosen = resolve("mlp") if nodes == 2 else choice
        return lambda: fit(task, task.with_defaults(chosen), options)

    return held_by(make, task.data.num_nodes)


def operations(task: ExpressionTask, choice: ModelChoice, batch_size: int) -> tuple[int, int]:
    """Of an epoch of training, and of a validation, counted in a short run of their own."""
    marks: list[int] = []
    options, threads = TrainOptions(epochs=2, batch_size=batch_size), torch.get_num_threads()
    # Other threads do not count.
    torch.set_num_threads(1)
    try:
        with Operations() as counted:
            fitted = fit(task, choice, options, on_validation=lambda _: marks.append(counted.count))
            before = counted.count
            evaluate(task, choice, fitted.network, task.split["val"], options)
            validation = counted.count - before
    finally:
        torch.set_num_threads(threads)
    return (marks[1] - marks[0] - validation, validation) if marks else (0, validation)


def rate(run: dict[str, Any], epoch: int, validation: int, epochs: int) -> dict[str, float | None]:
    """Operations per second between the first validation and the last, and their share of the machine's."""
    checks = len(run["curve"])
    if checks < 2:
        return {"flops_per_second": None, "share_of_matmul": None}
    # There is one validation after every few epochs, always as many.
    every = epochs // checks
    done = (checks - 1) * (every * epoch + validation)
    achieved = done / (run["curve"][-1][0] - run["curve"][0][0])
    return {"flops_per_second": achieved, "share_of_matmul": achieved / run["matmul_flops_per_second"]}


def faster(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The same run twice, with the least seconds of each validation, and the machine's higher rate."""
    curve = [[min(a[0], b[0]), a[1]] for a, b in zip(one["curve"], other["curve"], strict=True)]
    speed = "matmul_flops_per_second"
    return {**one, "curve": curve, speed: max(one[speed], other[speed])}


def compare(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Target, and of each model its best R2, the seconds until it is as good as the target, and ratios of these."""
    best = {name: max(r2 for _, r2 in run["curve"]) for name, run in runs.items()}
    baselines = [name for name in runs if not name.startswith("fimp")]
    leader = max(baselines, key=lambda name: best[name])
    reached = {
        name: next((seconds for seconds, r2 in run["curve"] if r2 >= best[leader]), None) for name, run in runs.items()
    }
    fastest = min(seconds for seconds in reached.values() if seconds is not None)
    rows = {}
    for name, run in runs.items():
        seconds = reached[name]
        ratio = seconds / fastest if seconds is not None and fastest > 0 else None
        rows[name] = {"best_r2": best[name], "seconds_to_target": seconds, "ratio": ratio}
        rows[name] |= {"seconds": run["curve"][-1][0], **run}
    return {"target": best[leader], "target_model": leader, "models": rows}


def main() -> None:
    """Train, print, and write what was printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .h5ad file, a .zarr store or a name; a simulated tissue by default")
    parser.add_argument("--cells", type=int, default=3000, help="cells of the simulated tissue")
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the cells, a contiguous crop")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps; rounded up to whole epochs")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    choices = {choice.name: choice for choice in resolve_all(chosen.models)}
    if all(name.startswith("fimp") for name in choices):
        parser.error("--models: no baseline among them; add gcn, for instance")
    source = chosen.data or simulate.tissue(n_cells=chosen.cells, seed=chosen.seed)
    data = load_cells(source, CellOptions(fraction=chosen.fraction), name=None if chosen.data else "simulated tissue")
    task = ExpressionTask(data, ExpressionOptions(), chosen.seed)
    batch_size = min(chosen.batch_size, len(task.split["train"]))
    if chosen.memory:
        sys.stdout.write(f"{memory(task, choices[chosen.memory], batch_size)}\n")
        return
    epochs = -(-chosen.steps // -(-len(task.split["train"]) // batch_size))
    runs: dict[str, dict[str, Any]] = {}
    for _ in range(chosen.repeats):
        for name, choice in choices.items():
            run = train(task, task.with_defaults(choice), epochs, batch_size)
            runs[name] = faster(runs[name], run) if name in runs else run
    found = compare(runs)
    for name, row in found["models"].items():
        row["peak_mb"] = peak_memory(__file__, name, *sys.argv[1:]) if row["steps"] else None
        row |= rate(row, *operations(task, task.with_defaults(choices[name]), batch_size), epochs)
    most = found["models"][found["target_model"]]["peak_mb"]
    for row in found["models"].values():
        row["peak_ratio"] = row["peak_mb"] / most if row["peak_mb"] is not None and most else None
    sys.stdout.write(
        f"{data.name}: {data.num_nodes:,} cells, {len(data.gene_names):,} genes; {epochs} epochs; "
        f"target: validation R2 {found['target']:.4f} of {found['target_model']}\n\n"
    )
    show(
        "model", "best validation R2", "s to the target", "ratio to the fastest", "s of all steps", "steps", "peak MB",
        "peak ratio", "FLOP/s", "share of matmul",
    )  # fmt: skip
    show(*["---"] * 10)
    columns = {
        "best_r2": "{:.4f}",
        "seconds_to_target": "{:.1f}",
        "ratio": "{:.2f}",
        "seconds": "{:.1f}",
        "steps": "{}",
        "peak_mb": "{:.0f}",
        "peak_ratio": "{:.2f}",
        "flops_per_second": "{:.3g}",
        "share_of_matmul": "{:.1%}",
    }
    for name, row in found["models"].items():
        show(name, *(text(row, *column) for column in columns.items()))
    if chosen.json:
        from fimp.train.runs import write_json

        size = {"cells": data.num_nodes, "genes": len(data.gene_names), "batch_size": batch_size, "epochs": epochs}
        write_json(chosen.json, {**versions(), "data": data.name, "seed": chosen.seed, **size, **found})


if __name__ == "__main__":
    main()
