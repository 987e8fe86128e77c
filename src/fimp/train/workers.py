"""Jobs side by side, each in a process of its own."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

from fimp.errors import FIMPError
from fimp.train import processes

#: Seconds that interrupted workers get to finish what they write.
_GRACE = 20.0


class Job(Protocol):
    """Work that can be sent to another process."""

    @property
    def index(self) -> int:
        """Number of the job."""
        ...

    @property
    def title(self) -> str:
        """What it is, for messages."""
        ...

    def run(self, listener: Callable[[float, str], None]) -> Any:
        """Do it; ``listener(share, text)`` is called as it goes on."""
        ...


J = TypeVar("J", bound=Job)


@dataclass
class _Worker(Generic[J]):
    process: BaseProcess
    pipe: Connection
    job: J | None = None
    heard: bool = False


class Workers(Generic[J]):
    """Processes that do jobs and report progress.

    Processes are started afresh, not forked: a fork of a process whose OpenMP threads have run hangs.

    Parameters
    ----------
    count
        Number of processes.
    """

    def __init__(self, count: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._workers = [self._start() for _ in range(count)]

    def _start(self) -> _Worker[J]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs,), daemon=True)
        # While it imports, a new process must not answer Ctrl-C with a traceback; it inherits this.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()
        return _Worker(process, ours)

    @property
    def free(self) -> bool:
        """Whether a worker has nothing to do."""
        return any(worker.job is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        """Whether a worker has something to do."""
        return any(worker.job is not None for worker in self._workers)

    def submit(self, job: J) -> None:
        """Give a job to a free worker."""
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job, worker.heard = job, False
        worker.pipe.send(job)

    def events(self) -> Iterator[tuple[J, str, Any]]:
        """Wait for news: ``(job, "progress", (share, text))`` or ``(job, "done", result)``.

        Raises
        ------
        FIMPError
            If a job met a user's mistake, or its process was ended from outside.
        """
        waiting = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        for pipe in wait(list(waiting)):
            worker = waiting[pipe]  # type: ignore[index]
            job = worker.job
            assert job is not None
            try:
                kind, content = worker.pipe.recv()
            except EOFError:
                worker.process.join()
                raise FIMPError(
                    f"{job.title}: its process ended with code "
                    f"{worker.process.exitcode}, perhaps for lack of memory; go on with --resume and fewer --jobs"
                ) from None
            worker.heard = True
            if kind == "mistake":
                raise FIMPError(content)
            if kind == "bug":
                raise RuntimeError(f"{job.title} failed:\n{content}")
            if kind == "done":
                worker.job = None
            yield job, kind, content

    def stop(self) -> None:
        """End all processes; those at work keep their last finished epoch."""
        for worker in self._workers:
            if worker.heard and worker.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGINT)
            else:
                # Still importing, or at nothing that is worth keeping.
                worker.process.kill()
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _work(pipe: Connection) -> None:
    """A process's life: take a job, do it, report."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            job: Job = pipe.recv()
            _do(job, pipe)
    # The process that asked is done, interrupted or gone.
    except (EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        pass


def _do(job: Job, pipe: Connection) -> None:
    try:
        pipe.send(("done", job.run(lambda share, text: pipe.send(("progress", (share, text))))))
    except FIMPError as error:
        pipe.send(("mistake", str(error)))
    except (BrokenPipeError, ConnectionResetError):
        raise
    # Whatever else went wrong is for the process that asked to tell.
    except Exception:
        pipe.send(("bug", traceback.format_exc()))


def run_all(
    jobs: Iterable[J],
    count: int,
    begin: Callable[[J], None],
    advance: Callable[[J, float, str], None],
) -> Iterator[tuple[J, Any]]:
    """Do jobs, ``count`` at a time, and yield each with its result as they finish.

    Parameters
    ----------
    jobs
        Taken one by one, each when there is room for it.
    count
        Jobs at a time; one at a time is done in this process.
    begin, advance
        Told when a job begins, and how far it is: ``advance(job, share, text)``.
    """
    waiting = iter(jobs)
    if count <= 1:
        for job in waiting:
            begin(job)
            advance_job = functools.partial(advance, job)
            yield job, processes.hand_out(job, advance_job)
        return
    workers: Workers[J] = Workers(count)
    more = True
    try:
        while more or workers.busy:
            while more and workers.free:
                taken = next(waiting, None)
                more = taken is not None
                if taken is not None:
                    begin(taken)
                    workers.submit(taken)
            if workers.busy:
                for job, kind, content in workers.events():
                    if kind == "done":
                        yield job, content
                    else:
                        advance(job, *content)
    finally:
        workers.stop()
