"""Progress of a comparison in the terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from fimp.train.workers import Job


class TerminalObserver:
    """A bar for every job at hand and a line for every finished one; without a terminal, only the lines.

    Parameters
    ----------
    console
        Where to.
    total
        Number of jobs.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}", style="dim"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._total = total
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, job: Job) -> None:
        """Show a job's bar."""
        self._tasks[job.index] = self._bar.add_task(f"{self._where(job)} {job.title}", total=1.0, text="")

    def advance(self, job: Job, share: float, text: str) -> None:
        """Move the bar."""
        self._bar.update(self._tasks[job.index], completed=share, text=text)

    def end(self, job: Job, result: dict[str, Any], *, reused: bool) -> None:
        """Print a run's line."""
        metrics = "  ".join(
            f"{name} {value:.4f}" for name, value in result["metrics"].items() if isinstance(value, float)
        )
        how = "finished earlier" if reused else f"{result['epochs']} epochs, {result['train_seconds']:.0f} s"
        self.say(job, f"{metrics}  ({how})")

    def say(self, job: Job, text: str) -> None:
        """Replace a job's bar by a line."""
        self._bar.remove_task(self._tasks.pop(job.index))
        self.console.print(f"{self._where(job)} {job.title}: {text}", highlight=False, markup=False, soft_wrap=True)

    def _where(self, job: Job) -> str:
        return f"[{job.index + 1}/{self._total}]"
