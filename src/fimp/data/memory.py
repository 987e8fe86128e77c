"""How much memory there is, and may be used."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from fimp.errors import FIMPError

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes(size: int | str, name: str = "memory_budget") -> int:
    """Bytes of a number, or of a text such as ``"4GiB"`` (1024s) or ``"500 MB"`` (1000s).

    Raises
    ------
    FIMPError
        If it is no positive size; ``name`` is the argument that it names.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", str(size).lower())
    factor = (1024 if found[3] else 1000) ** _UNITS[found[2]] if found else 0
    count = int(float(found[1]) * factor) if found else 0
    if count <= 0:
        raise FIMPError(f"{name}: {size!r} is no size above zero; use bytes, or a text such as '4GiB'")
    return count


def free_memory() -> int:
    """Bytes that are free, within the limits of a container where there are any."""
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # not Linux, no such controller, or "max"
            continue
    return max(0, free)


def memory_budget() -> int:
    """Bytes that the values of cells may take: ``FIMP_MEMORY_BUDGET`` where it is set, else half of what is free.

    The variable is a size as :func:`parse_bytes` reads it. It is no option of a run: a machine has it, and no result
    depends on it.

    Raises
    ------
    FIMPError
        If the variable is no size.
    """
    size = os.environ.get("FIMP_MEMORY_BUDGET")
    return free_memory() // 2 if size is None else parse_bytes(size, "FIMP_MEMORY_BUDGET")
