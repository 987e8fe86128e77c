"""Progress of a comparison in the terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class TerminalObserver:
    """A bar for the run at hand and a line for every finished one; without a terminal, only the lines."""

    def __init__(self, console: Console) -> None:
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
        self._task = self._bar.add_task("", total=1.0, text="")
        self._where = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, title: str, index: int, total: int) -> None:
        """Show a run's bar."""
        self._where = f"[{index + 1}/{total}]"
        self._bar.reset(self._task, description=f"{self._where} {title}", total=1.0, text="")

    def advance(self, share: float, text: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=share, text=text)

    def end(self, result: dict[str, Any], *, reused: bool) -> None:
        """Print the run's line."""
        metrics = "  ".join(
            f"{name} {value:.4f}" for name, value in result["metrics"].items() if isinstance(value, float)
        )
        how = "finished earlier" if reused else f"{result['epochs']} epochs, {result['train_seconds']:.0f} s"
        self.console.print(
            f"{self._where} {result['model']}, seed {result['seed']}: {metrics}  ({how})",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
