"""``fimp compare``: train several models on one task and tabulate the results."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.cli.setups import SETUPS, Setup, with_setup
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from rich.console import Console

    from fimp.train.compare import Comparison

app = typer.Typer(help="Train models on a task and tabulate the results.", no_args_is_help=True, rich_markup_mode=None)

# Flags of every command that trains.
Models = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated models; `:no-edges` after one removes its edges; fimp:FOLDER, fm:FOLDER. "
        "By default a few that suit the task."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training nodes; by default 60 (300 to 800 steps).")]
MaxMinutes = Annotated[float | None, typer.Option(help="Time for the whole command, evaluation included.")]
BatchSize = Annotated[int, typer.Option(help="Seed nodes per training step.")]
Precision = Annotated[str, typer.Option(help="32, or bf16: products in bfloat16, for GPUs.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Shard = Annotated[
    bool, typer.Option("--shard", help="Processes of torchrun share weights and optimizer states out (FSDP).")
]
Jobs = Annotated[int | None, typer.Option(help="Runs side by side; by default one per core.")]


def compare(
    setup: Setup,
    models: Models = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    epochs: Epochs = None,
    max_minutes: MaxMinutes = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    precision: Precision = "32",
    shard: Shard = False,
    jobs: Jobs = None,
    tuned: Annotated[Path | None, typer.Option(help="Folder of `fimp tune`, for its hyperparameters.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results and runs; an earlier comparison there is replaced.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on where an interrupted comparison stopped.")] = False,
) -> None:
    """Train models on a task and tabulate the results."""
    started = time.monotonic()
    deadline = deadline_of(max_minutes, started)
    out = Path("fimp_results") / setup.task if out is None else out
    check_folder(out)

    from fimp.models import resolve_all
    from fimp.models.checkpoints import short_name
    from fimp.train.compare import Comparison
    from fimp.train.fit import try_network
    from fimp.train.options import TrainOptions
    from fimp.train.runs import RunConfig
    from fimp.train.sharding import check_shard
    from fimp.train.tune import apply_tuned

    check_shard(shard)
    choices = resolve_all(setup.models if models is None else models)
    config = RunConfig(
        task=setup.task,
        source=setup.source,
        data=setup.data,
        options=setup.options,
        train=TrainOptions(epochs=epochs, batch_size=batch_size, device=device, precision=precision, shard=shard),
        model=choices[0].name,
        hyperparameters=choices[0].hyperparameters,
        seed=0,
    )
    # What does not fit the data must come to light before earlier results are replaced.
    task = config.make_task(config.read())
    for seed in range(1, seeds):
        # Another split may be one that cannot be scored.
        replace(config, seed=seed).make_task(config.read())
    choices = task.rows(choices)
    if tuned is not None:
        choices = apply_tuned(choices, tuned, setup.task)
    for choice in choices:
        if choice.reads_files:
            for note in try_network(task, choice):
                typer.echo(f"{short_name(choice.name)}: {note}")
    run_and_show(Comparison(config, choices, seeds, out, deadline, resume, jobs))


for _name, _setup in SETUPS.items():
    app.command(_name)(with_setup(_setup, compare))


def check_folder(out: Path) -> None:
    """Refuse an ``--out`` that is a file, lies below one, or cannot be written; nothing is left there."""
    try:
        folder = next(folder for folder in (out, *out.parents, Path()) if folder.exists() or folder.is_symlink())
        if not folder.is_dir():
            raise FIMPError(f"--out: {folder} is {'a file' if folder.exists() else 'a broken link'}; name a folder")
        with tempfile.TemporaryDirectory(prefix=".fimp-", dir=folder):
            pass
    except OSError as error:
        raise FIMPError(f"--out: {out} cannot be written ({error.strerror}); name another folder") from error


def deadline_of(max_minutes: float | None, started: float) -> float | None:
    """Moment at which a command should be over."""
    if max_minutes is None:
        return None
    if not (max_minutes > 0.0 and math.isfinite(max_minutes)):
        raise FIMPError(f"--max-minutes: {max_minutes} is no positive number; use 20, for instance")
    return started + 60.0 * max_minutes


def run_and_show(comparison: Comparison) -> dict[str, Any]:
    """Run a comparison with progress, write its table and figure, and print the table."""
    from rich.console import Console

    from fimp.analysis.figures import comparison_figure
    from fimp.analysis.reconstruction import reconstruction_figure
    from fimp.analysis.tables import markdown, verdicts
    from fimp.cli.progress import TerminalObserver
    from fimp.tasks import FMRITask
    from fimp.train.compare import RECONSTRUCTIONS
    from fimp.train.runs import write_text

    config = comparison.config
    console, task = Console(), config.make_task(config.read())
    data, features = task.data, task.num_features
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no edge to wrap at
    degree = data.edge_index.size(1) / data.num_nodes
    console.print(
        f"{data.name}: {data.num_nodes:,} nodes, {features:,} features, {degree:.1f} neighbours per node",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for note in data.notes:
        console.print(f"  {note}", style="dim", highlight=False, markup=False, soft_wrap=True)
    try:
        with TerminalObserver(console, len(comparison.plan())) as observer:
            results = comparison.run(observer)
    except KeyboardInterrupt:
        console.print("Interrupted. The same command with --resume goes on from the last finished epoch.", markup=False)
        raise
    write_text(comparison.out / "results.md", markdown(results))
    comparison_figure(results, comparison.out / "results.png")
    figures = "results.png"
    if examples := comparison.examples():
        assert isinstance(task, FMRITask)
        reconstruction_figure(task, examples, results).savefig(comparison.out / RECONSTRUCTIONS)
        figures += f", {RECONSTRUCTIONS}"
    show_table(console, results)
    for line in verdicts(results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{comparison.out}/results.json, results.md, {figures}, runs/", markup=False, highlight=False, soft_wrap=True
    )
    return results


def show_table(console: Console, results: dict[str, Any]) -> None:
    """Print mean ± standard deviation over seeds, the best in bold."""
    from rich.table import Table

    from fimp.analysis.figures import best_rows
    from fimp.analysis.tables import cell

    metrics = list(results["metrics"])
    from fimp.models.checkpoints import short_name

    table = Table(title=f"{results['task']} on {Path(results['data']['name']).name}", title_justify="left")
    table.add_column("model", overflow="fold")
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    table.add_column("train s", justify="right", no_wrap=True)
    best = {metric: best_rows(results, metric) for metric in metrics}
    for row in results["summary"]:
        cells = [cell(row, metric, digits=3) for metric in metrics]
        cells = [f"[bold]{c}[/]" if row["model"] in best[m] else c for c, m in zip(cells, metrics, strict=True)]
        table.add_row(short_name(row["model"]), *cells, str(row["n_seeds"]), f"{row['train_seconds']:.1f}")
    console.print(table)
