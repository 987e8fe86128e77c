"""What the benchmarks share: rounds of timing, peaks of memory in fresh processes, and tables."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

#: Rounds of each comparison, and the seconds after which no other begins.
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 3, 12, 20.0
#: Side of the square matrices whose product is the rate that others are compared with.
SIDE = 2048


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure_times(works: Mapping[str, Callable[[], object]]) -> tuple[dict[str, float], float]:
    """Least seconds of each way, and the highest rate of a large matrix product in operations per second.

    Ways take turns, round after round: others on the machine can only slow one down.
    """
    square = torch.randn(SIDE, SIDE)
    every: dict[str, Callable[[], object]] = {"": lambda: square @ square, **works}
    best = dict.fromkeys(every, math.inf)
    begun = time.monotonic()
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.monotonic() - begun > SECONDS:
            break
        for way, work in every.items():
            best[way] = min(best[way], seconds_of(work))
    return best, 2 * SIDE**3 / best.pop("")


def resident(which: str) -> float:
    """Resident memory of this process in MB, now (``VmRSS``) or at its highest (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(which))) / 1024


def held_by(make: Callable[[int], Callable[[], object]], nodes: int) -> float:
    """MB that a call holds at most above its inputs; for a process of its own.

    Parameters
    ----------
    make
        Makes the call, with its inputs, for a number of nodes.
    nodes
        That number; the call is made for two nodes before, which loads what is loaded once.
    """
    make(2)()
    work = make(nodes)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def peak_memory(script: str, *arguments: object) -> float | None:
    """What ``script --memory ARGUMENTS`` prints; None where the system keeps no such peak (it does on Linux).

    The C library is told to give freed memory back at once: what is resident is then what is held.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, script, "--memory", *map(str, arguments)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of dense matrix products, and of attention, while it is active.

    Those done, that is: what a backward pass computes once more counts again. Products of sparse matrices do not count.

    Attributes
    ----------
    count
        Operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator, and count what it takes."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        if packet is attention or packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward:
            # Two products forward; backward the scores again, and two for each of them.
            query, key = args[:2] if packet is attention else args[1:3]
            self.count += (4 if packet is attention else 10) * query.numel() * key.size(-2)
        elif packet in flop_registry:
            dense = all(one.layout is torch.strided for one in args if isinstance(one, torch.Tensor))
            self.count += flop_registry[packet](*args, **kwargs, out_val=out) if dense else 0
        return out


def matmul_rate() -> float:
    """The highest rate of a large matrix product in a few, in operations per second."""
    square = torch.randn(SIDE, SIDE)
    return 2 * SIDE**3 / min(seconds_of(lambda: square @ square) for _ in range(LEAST_ROUNDS))


def show(*cells: object) -> None:
    """Write a row of a table."""
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


def text(row: Mapping[str, Any], name: str, form: str) -> str:
    """A number of a row, or a dash where it has none."""
    return "-" if row.get(name) is None else form.format(row[name])


def versions() -> dict[str, Any]:
    """What numbers were measured with."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}
