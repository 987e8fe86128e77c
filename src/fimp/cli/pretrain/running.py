"""What the commands that pretrain have in common: flags, checks, progress, going on, and the report."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from rich.console import Console

    from fimp.train.fit import Fitted

Out = Annotated[Path, typer.Option(help="Folder to write; it must not exist.")]
Dim = Annotated[int, typer.Option(help="Model width.")]
Layers = Annotated[int, typer.Option(help="Transformer layers.")]
Heads = Annotated[int, typer.Option(help="Attention heads.")]
Hidden = Annotated[int, typer.Option(help="Width of the feed-forward networks.")]
Dropout = Annotated[float, typer.Option(help="Dropout.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data; by default 60 (300 to 800 steps).")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, masks and of what validates.")]

#: Writes the model as a new folder.
Save = Callable[[Path], None]
#: ``train(folder, **arguments)`` pretrains in a folder; returns what saves the model, and how it went.
Train = Callable[..., tuple[Save, "Fitted"]]


def check(out: Path, lr: float, seed: int, shard: bool) -> None:
    """Refuse what can be seen to be wrong before anything is read.

    Raises
    ------
    FIMPError
        If the folder exists or has no place to be, a number is outside its range, or weights are to be shared out and
        there is one process.
    """
    if out.exists():
        raise FIMPError(f"--out: {out} exists; name a new folder or remove it")
    if not out.parent.is_dir():
        raise FIMPError(f"--out: {out.parent} is no folder; make it first")
    if not 0.0 < lr < math.inf:
        raise FIMPError(f"--lr: {lr} is no positive number; use 0.001, for instance")
    if seed < 0:
        raise FIMPError(f"--seed: {seed} is negative; use 0, for instance")
    if shard:
        from fimp.train.sharding import check_shard

        check_shard(shard)


def pretrain(out: Path, settings: dict[str, Any], said: str, notes: Sequence[str], train: Train) -> None:
    """Pretrain in a hidden folder beside ``out`` until the model is there; the same command goes on with it.

    Of several processes, all train, and the first does everything else.

    Parameters
    ----------
    out
        Folder to write.
    settings
        Everything that the model depends on.
    said, notes
        What was read, and what a user should know of it.
    train
        Does it.

    Raises
    ------
    FIMPError
        If an interrupted run has other settings, or nothing can be written.
    """
    from fimp.train import processes

    work = out.with_name(f".{out.name}.pretraining")
    if not processes.leads():
        train(work, resume=True)
        return
    console = _console()
    console.print(said, highlight=False, markup=False, soft_wrap=True)
    for note in notes:
        console.print(f"  {note}", style="dim", highlight=False, markup=False, soft_wrap=True)
    _same_settings(work, settings)
    try:
        with bar("pretraining") as listener:
            save, fitted = train(work, resume=True, listener=listener)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here", highlight=False)
        raise
    except Exception:
        if not (work / "checkpoints").exists():
            shutil.rmtree(work)
        raise
    save(out)
    best = _report(work, out)
    shutil.rmtree(work)
    result = f"{out}: {fitted.steps} steps, {fitted.train_seconds:.0f} s{best}; use it as fimp:{out}"
    console.print(result, highlight=False, markup=False, soft_wrap=True)


def _same_settings(work: Path, settings: dict[str, Any]) -> None:
    """Keep the settings beside what is trained; refuse to go on with others."""
    import yaml

    from fimp.train.runs import write_text

    text = yaml.safe_dump({key: str(value) for key, value in settings.items()}, sort_keys=False)
    path = work / "config.yaml"
    if path.is_file() and path.read_text() != text:
        raise FIMPError(f"--out: {work} holds an interrupted run of other settings; give these again or remove it")
    try:
        write_text(path, text)
    except OSError as error:
        raise FIMPError(f"--out: {work.parent} cannot be written ({error.strerror}); name another place") from error


def _report(work: Path, out: Path) -> str:
    """How training went, into the folder of the model; returns the best validation in words."""
    from fimp.analysis.figures import training_figure
    from fimp.train.callbacks import read_metrics

    rows = read_metrics(work / "metrics.csv")
    if not rows:
        return ""
    shutil.copy(work / "metrics.csv", out / "pretraining.csv")
    training_figure(rows, out / "pretraining.png")
    scores = [float(row["val_r2"]) for row in rows if row.get("val_r2")]
    return f", validation r2 {max(scores):.4f}" if scores else ""


@contextmanager
def bar(what: str) -> Iterator[Callable[[float, str], None]]:
    """A progress bar, told as ``listener(share, text)``; nothing where there is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = _console()
    columns = (
        TextColumn(what),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1.0, text="")
        yield lambda share, text: progress.update(task, completed=share, text=text)


def _console() -> Console:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 120
    return console
