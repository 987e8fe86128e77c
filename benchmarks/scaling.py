"""Time and memory of layer-wise inference from 10,000 to a million nodes, and on two processes.

    python benchmarks/scaling.py [--nodes 10000 100000 1000000] [--budget 3GiB] [--tmp FOLDER] [--json FILE]

A graph of random points, numbered at random, whose edges come from the 8 nearest neighbours; 16 tokens of width 64 at
every node; two layers (:class:`fimp.nn.FIMPLayer`, 4 heads) with :func:`fimp.train.layerwise_blocks`. Every graph has a
process of its own. A machine's speed may change within minutes, which is what a large graph takes; so the smallest is
measured before and after each larger one and every five seconds meanwhile, while the larger one's process is held
(SIGSTOP), which is not counted in its time. Printed for every number of nodes:

- microseconds per node and layer, by the clock and in processor time of all threads (which does not count the time that
  others had the processor), and their ratio to the mean of the smallest graph's meanwhile; and how often that was
  measured, and from what to what it went;
- the peak of resident memory above what the process held before the call (libraries, edges, positions), and the budget.
  The budget is for everything that the call allocates. Pages of files that the system caches are not the process's;
- what one copy of the token states takes, and whether they were in a file;
- useful floating-point operations per second by the clock, and their share of the rate of one large `torch.matmul` with
  as many threads, measured before and afterwards.

Edges between random nodes instead of near ones are measured at the second size: blocks then have no locality to use.
At the second size also: two processes (gloo) that share the nodes out and exchange what they hear of each other,
against one process, with one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

DEGREE, TOKENS, WIDTH, HEADS, LAYERS = 8, 16, 64, 4, 2
#: Graphs of as many nodes are computed once before they are measured.
WARM = 50_000
#: Useful operations per node and layer: projections (for neighbours, for the node itself, of the update) and attention.
OPERATIONS = 24 * TOKENS * WIDTH**2 + 4 * (DEGREE + 1) * TOKENS**2 * WIDTH
#: Seconds of a large graph between two measurements of the smallest.
SLICE = 5.0
COLUMNS = (
    "nodes", "edges", "wall µs", "cpu µs", "wall ratio", "cpu ratio", "peak MB", "budget", "states MB", "in a file",
    "GFLOP/s", "share of matmul", "wall µs of the smallest meanwhile",
)  # fmt: skip


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


class Measurement:
    """One graph, whose states can be computed again and again.

    Parameters
    ----------
    count, kind
        Number of nodes, and which edges (:func:`make_graph`).
    budget, folder
        As in :func:`fimp.train.layerwise_inference`.
    """

    def __init__(self, count: int, kind: str, budget: str, folder: str) -> None:
        import torch
        import torch.distributed as dist

        from fimp.nn import FIMPLayer
        from fimp.train.peak_memory import peak_memory_mb, reset_peak_memory

        self._group = None
        if "WORLD_SIZE" in os.environ:
            dist.init_process_group("gloo")
            self._group = dist.group.WORLD
        self._count, self._budget, self._folder = count, budget, folder
        self._edges, self._positions = make_graph(count, kind)
        torch.manual_seed(0)
        self._layers = [FIMPLayer(WIDTH, HEADS) for _ in range(LAYERS)]
        self._content = torch.randn(997, TOKENS, WIDTH)
        self._real = torch.ones(997, TOKENS, dtype=torch.bool)
        if count <= WARM:
            self._compute()  # what is set up once per process is not counted where it would count most
        reset_peak_memory()
        self._before = peak_memory_mb()

    def _compute(self) -> float:
        """Run all layers; the sum of all states."""
        import torch

        from fimp.tokenizers import Tokens
        from fimp.train import layerwise_blocks

        blocks = layerwise_blocks(
            self._layers,
            lambda nodes: Tokens(self._content[nodes % 997], self._real[nodes % 997]),
            self._edges,
            self._count,
            positions=self._positions,
            memory_budget=self._budget,
            folder=self._folder,
            group=self._group,
        )
        return sum(float(h.sum(dtype=torch.float64)) for _, (h, _) in blocks)

    def run(self) -> dict[str, Any]:
        """Seconds by the clock and of processor time, peak memory above what was held, and the sum of all states."""
        import torch.distributed as dist

        from fimp.train.inference.rows import FileRows
        from fimp.train.peak_memory import peak_memory_mb

        with patch.object(FileRows, "__init__", autospec=True, side_effect=FileRows.__init__) as in_a_file:
            clock, processor = time.perf_counter(), time.process_time()
            total = self._compute()
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
        found = {
            "wall": clock,
            "cpu": processor,
            "peak": peak_memory_mb() - self._before,
            "sum": total,
            "file": in_a_file.called,
        }
        if self._group is not None:
            every: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(every, found)
            found = {**found, "sum": sum(one["sum"] for one in every), "peak": max(one["peak"] for one in every)}
            # Processes that share a graph measure once.
            dist.destroy_process_group()
        return found


class Worker:
    """A process that measures one graph whenever it is asked to.

    Parameters
    ----------
    arguments
        Those of :class:`Measurement`.
    threads
        Threads of torch.
    processes
        More than one share the nodes out.
    """

    def __init__(self, arguments: list[object], threads: int, processes: int = 1) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        start = [sys.executable]
        if processes > 1:
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [*start, str(Path(__file__).resolve()), "--worker", *map(str, arguments)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()  # it is ready

    def run(self, meanwhile: Callable[[], object] | None = None) -> dict[str, Any]:
        """What :meth:`Measurement.run` finds.

        Parameters
        ----------
        meanwhile
            Called again and again while the process is held, which is not counted in its time.
        """
        self._ask("run")
        held = 0.0
        while meanwhile is not None and not self._answered(SLICE):
            begin = time.perf_counter()
            self._process.send_signal(signal.SIGSTOP)
            try:
                # What has just ended has written that.
                if not self._answered(0.1):
                    meanwhile()
                    held += time.perf_counter() - begin
            finally:
                self._process.send_signal(signal.SIGCONT)
        found: dict[str, Any] = json.loads(self._read())
        return {**found, "wall": found["wall"] - held}

    def rate(self) -> float:
        """The rate of one large matrix product there, in operations per second."""
        self._ask("rate")
        return float(self._read())

    def _ask(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def _answered(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"scaling.py: a process that measures ended with {self._process.wait()}; see above")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def work(arguments: list[str]) -> None:
    """Measure whenever a line asks for it; with several processes, once."""
    from common import matmul_rate

    count, kind, budget, folder = arguments
    measurement = Measurement(int(count), kind, budget, folder)
    shared = "WORLD_SIZE" in os.environ
    if shared and os.environ["RANK"] != "0":
        measurement.run()
        return
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in ["run\n"] if shared else sys.stdin:
        found = measurement.run() if line == "run\n" else matmul_rate()
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def show(*cells: object) -> None:
    """Write a row of a table."""
    texts = [f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    sys.stdout.write("| " + " | ".join(texts) + " |\n")
    sys.stdout.flush()


def per_node(found: dict[str, Any], count: int, key: str) -> float:
    """Microseconds per node and layer."""
    return 1e6 * float(found[key]) / count / LAYERS


def compare_sizes(sizes: list[int], budget: str, folder: str, threads: int) -> list[dict[str, Any]]:
    """Measure all sizes, the smallest again and again meanwhile; print and return the table."""
    show(*COLUMNS)
    show(*["---"] * len(COLUMNS))
    rows = []
    for kind, counts in (("near", sizes), ("random", sizes[1:2])):
        if not counts:
            continue
        with Worker([sizes[0], kind, budget, folder], threads) as smallest:
            for count in counts:
                found, rates = smallest.run(), [smallest.rate()]
                around = [found, *(smallest.run() for _ in range(4))] if count == sizes[0] else [found]
                if count != sizes[0]:
                    with Worker([count, kind, budget, folder], threads) as larger:
                        found = larger.run(lambda: around.append(smallest.run()))  # noqa: B023
                    around.append(smallest.run())
                rates.append(smallest.rate())
                rows.append(row_of(count, kind, budget, found, sizes[0], around, statistics.fmean(rates)))
    return rows


def row_of(
    count: int,
    kind: str,
    budget: str,
    found: dict[str, Any],
    smallest: int,
    around: list[dict[str, Any]],
    rate: float,
) -> dict[str, Any]:
    """Print and return what was found of a graph, and of the smallest meanwhile."""
    keys = ("wall", "cpu")
    times = {key: [per_node(one, smallest, key) for one in around] for key in keys}
    means = {key: statistics.fmean(times[key]) for key in keys}
    taken = means if count == smallest else {key: per_node(found, count, key) for key in keys}
    row = {
        "nodes": count,
        "edges": kind,
        **taken,
        **{f"{key}_ratio": taken[key] / means[key] for key in keys},
        "peak_mb": found["peak"],
        "budget": budget,
        "states_mb": count * TOKENS * WIDTH * 4 / 2**20,
        "file": found["file"],
    }
    row |= {"gflops": OPERATIONS / taken["wall"] / 1e3}
    row |= {"share_of_matmul": 1e9 * row["gflops"] / rate}
    show(*row.values(), f"{len(around)}: {min(times['wall']):.0f} to {max(times['wall']):.0f}")
    return {**row, "around": times}


def compare_processes(count: int, budget: str, folder: str) -> list[dict[str, Any]]:
    """Measure one process, two, and one again, with one thread each; print and return the table."""
    sys.stdout.write(f"\n{count:,} nodes, near edges, one thread per process\n\n")
    show("processes", "seconds", "ratio", "peak MB of a process", "difference of results")
    show(*["---"] * 5)
    found = []
    for processes in (1, 2, 1):
        with Worker([count, "near", budget, folder], 1, processes) as worker:
            found.append(worker.run())
    alone = {**found[0], "wall": statistics.fmean([found[0]["wall"], found[2]["wall"]])}
    rows = []
    for processes, one in ((1, alone), (2, found[1])):
        row = {"processes": processes, "seconds": one["wall"], "sum": one["sum"], "peak_mb": one["peak"]}
        difference = abs(one["sum"] - alone["sum"]) / abs(alone["sum"])
        show(processes, one["wall"], one["wall"] / alone["wall"], one["peak"], f"{difference:.1e}")
        rows.append(row)
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
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        work(chosen.worker)
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
