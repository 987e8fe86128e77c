"""``fimp tune``: search hyperparameters, the same way for every model."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.cli.compare import BatchSize, Device, Epochs, Jobs, Models, Precision, check_folder
from fimp.cli.setups import SETUPS, Setup, with_setup
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from fimp.train.tune import Study

app = typer.Typer(
    help="Search hyperparameters, the same grid for every model.", no_args_is_help=True, rich_markup_mode=None
)


def tune(
    setup: Setup,
    models: Models = None,
    trials: Annotated[int, typer.Option(help="Trials of every model: its defaults, then points of the grid.")] = 12,
    also: Annotated[
        list[str] | None, typer.Option(help="Further data, scored separately; the mean decides. Repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Splits per data; the mean decides.")] = 1,
    epochs: Epochs = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    precision: Precision = "32",
    jobs: Jobs = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the search; the same command goes on with an unfinished one.")
    ] = None,
) -> None:
    """Search learning rate, dropout, attention dropout and weight decay on validation nodes.

    Every model tries its own defaults first, then the same points of one grid.
    """
    started = time.monotonic()
    out = Path("fimp_results") / f"tune_{setup.task}" if out is None else out
    check_folder(out)
    if seeds < 1:
        raise FIMPError(f"--seeds: {seeds} is below 1; use 1, for instance")

    from fimp.models import resolve_all
    from fimp.train.fit import try_network
    from fimp.train.options import TrainOptions
    from fimp.train.runs import RunConfig
    from fimp.train.single import side_by_side
    from fimp.train.tune import Study, points, prepare, write_best

    models = setup.models if models is None else models
    choices = [choice for choice in resolve_all(models) if choice.spec.trainable]
    if not choices:
        raise FIMPError(f"--models: nothing in {models!r} has hyperparameters; name a model that is trained")
    points(trials, 0, choices[0].hyperparameters)
    sources = [setup.source, *(also or [])]
    base = RunConfig(
        task=setup.task,
        source=setup.source,
        data=setup.data,
        options=setup.options,
        train=TrainOptions(epochs=epochs, batch_size=batch_size, device=device, precision=precision),
        model=choices[0].name,
        hyperparameters=choices[0].hyperparameters,
        seed=0,
    )
    tasks = [config.make_task(config.read()) for config in (replace(base, source=source) for source in sources)]
    choices = tasks[0].rows(choices)
    for task in tasks:
        for choice in choices:
            if choice.reads_files:
                try_network(task, choice)
    count, threads = side_by_side(jobs, len(choices), base.train.accelerator)
    prepare(out, base, sources, seeds)
    studies = []
    for index, choice in enumerate(choices):
        shared = base.of(choice, threads=threads)
        folds = [replace(shared, source=source, seed=seed) for source in sources for seed in range(seeds)]
        studies.append(Study(index, tuple(folds), trials, out))
    reports = _run(studies, count)
    write_best(out, base, sources, seeds, reports, time.monotonic() - started)
    _show(reports, out)


for _name, _setup in SETUPS.items():
    # Without training there is nothing to tune.
    if _name != "zeroshot":
        app.command(_name)(with_setup(_setup, tune))


def _run(studies: list[Study], count: int) -> list[dict[str, Any]]:
    """Reports of all studies, in their order."""
    from rich.console import Console

    from fimp.cli.progress import TerminalObserver
    from fimp.train.workers import run_all

    console = Console()
    reports: dict[int, dict[str, Any]] = {}
    try:
        with TerminalObserver(console, len(studies)) as observer:
            for study, report in run_all(studies, count, observer.begin, observer.advance):
                pruned = sum(trial["state"] == "pruned" for trial in report["trials"])
                observer.say(study, f"best {report['score']:.4f} of {len(report['trials'])} trials ({pruned} pruned)")
                reports[study.index] = report
    except KeyboardInterrupt:
        console.print("Interrupted. The same command goes on from the last finished trial.", markup=False)
        raise
    return [reports[index] for index in sorted(reports)]


def _value(number: float | None) -> str:
    return "by rule" if number is None else f"{number:g}"


def _show(reports: list[dict[str, Any]], out: Path) -> None:
    """Print the best hyperparameters, and draw all trials."""
    from rich.console import Console
    from rich.table import Table

    from fimp.analysis.figures import tuning_figure
    from fimp.train.tune import BEST, GRID, tried_grid

    table = Table("model", "validation", *GRID)
    for report in reports:
        best = report["hyperparameters"]
        table.add_row(report["model"], f"{report['score']:.4f}", *(_value(best[name]) for name in GRID))
    console = Console()
    console.print(table)
    tuning_figure(reports, tried_grid(reports), out / "tune.png")
    console.print(f"{out / BEST}, {out / 'tune.png'}: use them with `fimp compare --tuned {out}`", markup=False)
