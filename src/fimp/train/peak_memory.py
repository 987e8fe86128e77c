"""Peak memory of this process, or of the GPU that it uses."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import torch


def reset_peak_memory() -> None:
    """Begin a new measurement of peak memory, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Peak resident memory since :func:`reset_peak_memory` in MB (of the GPU, where one was used).

    Where the system keeps no such peak (it does on Linux), what is resident now.
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    return float(psutil.Process().memory_info().rss) / 2**20
