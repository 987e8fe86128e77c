"""Time and memory of layer-wise inference from 10,000 to a million nodes, and on two processes.

    python benchmarks/scaling.py [--nodes 10000 100000 1000000] [--budget 3GiB] [--tmp FOLDER] [--json FILE]

A graph of random points, numbered at random, whose edges come from the 8 nearest neighbours; 16 tokens of width 64 at
every node; two layers (:class:`fimp.nn.FIMPLayer`, 4 heads) with :func:`fimp.train.layerwise_blocks`. Every measurement
is a process of its own. Printed for every number of nodes:

- microseconds per node and layer, by the clock and in processor time of all threads (which does not count the time that
  others had the processor), and their ratio to those of the smallest graph, measured before and after each larger one
  (the median of up to five repetitions);
- the peak of resident memory above what the process held before the call (libraries, edges, positions), and the budget.
  The budget is for everything that the call allocates. Pages of files that the system caches are not the process's;
- what one copy of the token states takes, and whether they were in a file.

Edges between random nodes instead of near ones are measured at the second size: blocks then have no locality to use.
At the second size also: two processes (gloo) that share the nodes out and exchange what they hear of each other,
against one process, with one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEGREE, TOKENS, WIDTH, HEADS, LAYERS = 8, 16, 64, 4, 2
#: Nodes that the repetitions of a small measurement come to, at most five times.
ENOUGH = 50_000


def make_graph(count: int, kind: str) -> tuple[Any, Any]:
    """Edges ``[2, E]`` and positions ``[N, 2]`` (None for random edges)."""
    import numpy as np
    import torch
    from scipy.spatial import cKDTree

    generator = np.random.default_rng(0)
    dst = np.repeat(np.arange(count, dtype=np.int64), DEGREE)
    if kind == "random":
        return torch.from_numpy(np.stack([generator.integers(0, count, len(dst)), dst])), None
    positions = generator.random((count, 2))
    near = cKDTree(positions).query(positions, DEGREE + 1, workers=-1)[1][:, 1:]
    return torch.from_numpy(np.stack([near.ravel(), dst])), torch.from_numpy(positions)


def measure(count: int, kind: str, budget: str, folder: str) -> dict[str, Any]:
    """Seconds by the clock and of processor time, peak memory above what was held, and the sum of all states."""
    import torch
    import torch.distributed as dist

    from fimp.nn import FIMPLayer
    from fimp.tokenizers import Tokens
    from fimp.train import layerwise_blocks
    from fimp.train.peak_memory import peak_memory_mb, reset_peak_memory

    group = None
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
        group = dist.group.WORLD
    edge_index, positions = make_graph(count, kind)
    torch.manual_seed(0)
    layers = [FIMPLayer(WIDTH, HEADS) for _ in range(LAYERS)]
    content = torch.randn(997, TOKENS, WIDTH)
    real = torch.ones(997, TOKENS, dtype=torch.bool)

    def run() -> tuple[float, float, float]:
        clock, processor, total = time.perf_counter(), time.process_time(), 0.0
        blocks = layerwise_blocks(
            layers,
            lambda nodes: Tokens(content[nodes % 997], real[nodes % 997]),
            edge_index,
            count,
            positions=positions,
            memory_budget=budget,
            folder=folder,
            group=group,
        )
        for _, (h, _) in blocks:
            total += float(h.sum(dtype=torch.float64))
        return time.perf_counter() - clock, time.process_time() - processor, total

    if count < ENOUGH:
        run()  # what is set up once per process is not counted where it would count most
    reset_peak_memory()
    before = peak_memory_mb()
    with files_made() as files:
        found = [run() for _ in range(min(5, max(1, ENOUGH // count)))]
    wall, processor = (statistics.median(times) for times in list(zip(*found, strict=True))[:2])
    result = {
        "wall": wall,
        "cpu": processor,
        "peak": peak_memory_mb() - before,
        "before": before,
        "sum": found[0][2],
        "file": len(files) > 0,
    }
    if group is not None:
        every: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(every, result)
        result = {**result, "sum": sum(one["sum"] for one in every), "peak": max(one["peak"] for one in every)}
        dist.destroy_process_group()
    return result


@contextmanager
def files_made() -> Iterator[list[int]]:
    """Widths of the rows that are put in files."""
    from fimp.train.inference.rows import FileRows

    widths: list[int] = []
    begin = FileRows.__init__

    def noted(self: FileRows, count: int, width: int, *rest: Any) -> None:
        widths.append(width)
        begin(self, count, width, *rest)

    FileRows.__init__ = noted  # type: ignore[method-assign]
    try:
        yield widths
    finally:
        FileRows.__init__ = begin  # type: ignore[method-assign]


def fresh(arguments: list[object], threads: int, processes: int = 1) -> dict[str, Any]:
    """What :func:`measure` finds in a process of its own, or in several."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*start, str(Path(__file__).resolve()), "--measure", *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(*cells: object) -> None:
    """Write a row of a table."""
    texts = [f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    sys.stdout.write("| " + " | ".join(texts) + " |\n")
    sys.stdout.flush()


def per_node(found: dict[str, Any], count: int, key: str) -> float:
    """Microseconds per node and layer."""
    return 1e6 * float(found[key]) / count / LAYERS


def compare_sizes(sizes: list[int], budget: str, folder: str, threads: int) -> list[dict[str, Any]]:
    """Measure all sizes, the smallest around each; print and return the table."""
    show(
        "nodes", "edges", "wall µs", "cpu µs", "wall ratio", "cpu ratio", "peak MB", "budget", "states MB", "in a file"
    )
    show(*["---"] * 10)
    smallest, rows = sizes[0], []
    base = [fresh([smallest, "near", budget, folder], threads)]
    plan = [(size, "near") for size in sizes] + [(size, "random") for size in sizes[1:2]]
    for count, kind in plan:
        found = base[0] if count == smallest else fresh([count, kind, budget, folder], threads)
        if count != smallest:
            base.append(fresh([smallest, kind, budget, folder], threads))
        around = base[-2:] if kind == "near" else base[-1:]
        row = {
            "nodes": count,
            "edges": kind,
            **{key: per_node(found, count, key) for key in ("wall", "cpu")},
            **{
                f"{key}_ratio": per_node(found, count, key)
                / statistics.fmean(per_node(one, smallest, key) for one in around)
                for key in ("wall", "cpu")
            },
            "peak_mb": found["peak"],
            "budget": budget,
            "states_mb": count * TOKENS * WIDTH * 4 / 2**20,
            "file": found["file"],
        }
        rows.append(row)
        show(*row.values())
        row["around"] = [{key: per_node(one, smallest, key) for key in ("wall", "cpu")} for one in around]
    return rows


def compare_processes(count: int, budget: str, folder: str) -> list[dict[str, Any]]:
    """Measure one process and two, with one thread each; print and return the table."""
    sys.stdout.write(f"\n{count:,} nodes, near edges, one thread per process\n\n")
    show("processes", "seconds", "ratio", "peak MB of a process", "difference of results")
    show(*["---"] * 5)
    rows: list[dict[str, Any]] = []
    for processes in (1, 2):
        found = fresh([count, "near", budget, folder], 1, processes)
        first = rows[0] if rows else {"seconds": found["wall"], "sum": found["sum"]}
        row = {"processes": processes, "seconds": found["wall"], "sum": found["sum"], "peak_mb": found["peak"]}
        rows.append(row)
        difference = abs(found["sum"] - first["sum"]) / abs(first["sum"])
        show(processes, found["wall"], found["wall"] / first["seconds"], found["peak"], f"{difference:.1e}")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--budget", default="3GiB")
    parser.add_argument("--tmp", default=None, help="folder for token states; by default that for temporary files")
    parser.add_argument(
        "--threads", type=int, default=1, help="more are faster, but wait for each other where others use the machine"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        count, kind, budget, folder = chosen.measure
        sys.stdout.write(json.dumps(measure(int(count), kind, budget, folder)) + "\n")
        return
    import tempfile

    folder = chosen.tmp or tempfile.gettempdir()
    sizes = sorted(chosen.nodes)
    found = {"sizes": compare_sizes(sizes, chosen.budget, folder, chosen.threads)}
    found["processes"] = compare_processes(sizes[min(1, len(sizes) - 1)], chosen.budget, folder)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
