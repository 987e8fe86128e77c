"""Independent parts of a computation at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def in_parallel(work: Callable[[int], None], count: int) -> None:
    """Call ``work(0)`` to ``work(count - 1)``, as many at the same time as torch has threads.

    Operators on a few hundred thousand numbers spend much of their time on handing parts to threads and waiting for
    the last of them; threads that each go through a part of the problem from end to end meet only once.

    Parameters
    ----------
    work
        Must neither read nor write what another call writes. Runs without gradients.
    count
        Number of parts.
    """
    threads = torch.get_num_threads()
    workers = min(count, threads)
    if workers <= 1:
        for index in range(count):
            work(index)
        return
    inference = torch.is_inference_mode_enabled()

    def call(index: int) -> None:
        # A new thread inherits neither mode.
        with torch.inference_mode(inference), torch.no_grad():
            work(index)

    try:
        # Threads of our own, not a pool that is kept: that would be dead in a forked process.
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            list(pool.map(call, range(count)))
    finally:
        # The number holds for the thread that sets it, but also for threads that start later.
        torch.set_num_threads(threads)
