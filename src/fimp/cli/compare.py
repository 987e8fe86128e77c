"""``fimp compare``: train several models on one task and tabulate the results."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from rich.console import Console

    from fimp.train.compare import Comparison

app = typer.Typer(help="Train models on a task and tabulate the results.", no_args_is_help=True, rich_markup_mode=None)

# Flags that every task takes.
Models = Annotated[str, typer.Option(help="Comma-separated models; `:no-edges` after one removes its edges.")]
Seeds = Annotated[int, typer.Option(help="Number of seeds.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training nodes; by default 60 (300 to 800 steps).")]
MaxMinutes = Annotated[float | None, typer.Option(help="Time for the whole command, evaluation included.")]
BatchSize = Annotated[int, typer.Option(help="Seed nodes per training step.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Out = Annotated[Path, typer.Option(help="Folder for results and runs; an earlier comparison there is replaced.")]
Resume = Annotated[bool, typer.Option(help="Go on where an interrupted comparison stopped.")]


@app.callback()
def _group() -> None:
    """Keep the task's name on the command line even while there is one task."""


@app.command("expression")
def expression(
    data: Annotated[
        list[str], typer.Option(help="An .h5ad file, or a name that `fimp data list` shows; may be repeated.")
    ],
    models: Models = "mean,mlp,gcn,fimp-base",
    seeds: Seeds = 3,
    epochs: Epochs = None,
    max_minutes: MaxMinutes = None,
    fraction: Annotated[float, typer.Option(help="Share of cells: a contiguous crop (paper: 0.05).")] = 1.0,
    tokens: Annotated[int, typer.Option(help="Most genes sampled per cell.")] = 50,
    layer: Annotated[str | None, typer.Option(help="Layer with the values, X or raw; chosen by default.")] = None,
    spatial_key: Annotated[str, typer.Option(help="Key of the coordinates in obsm.")] = "spatial",
    graph: Annotated[str, typer.Option(help="auto, knn, radius, delaunay or expression.")] = "auto",
    neighbors: Annotated[int, typer.Option(help="Neighbours per cell.")] = 8,
    genes: Annotated[int, typer.Option(help="Number of genes kept, the most variable.")] = 1000,
    section: Annotated[
        str | None, typer.Option(help="Column of obs with sections, or none; recognised by default.")
    ] = None,
    test_section: Annotated[
        list[str] | None, typer.Option(help="Section that is held out for testing; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="random, or blocks of neighbouring cells.")] = "random",
    normalize: Annotated[str, typer.Option(help="Scale by total or by visible counts.")] = "total",
    zeros: Annotated[float, typer.Option(help="Share of tokens from genes a cell does not express.")] = 0.0,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    out: Out = Path("fimp_results/expression"),
    resume: Resume = False,
) -> None:
    """Predict hidden gene expression (paper table 1)."""
    started = time.monotonic()
    deadline = deadline_of(max_minutes, started)
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise FIMPError(f"--out: {folder} is a file; name a folder")
    if not all(one.strip() for one in data):
        raise FIMPError("--data: empty; pass an .h5ad file or a name that `fimp data list` shows")

    from fimp.data.cells import CellOptions, load_cells
    from fimp.models import resolve_all
    from fimp.tasks import ExpressionOptions, ExpressionTask
    from fimp.train.compare import Comparison
    from fimp.train.fit import TrainOptions
    from fimp.train.runs import RunConfig

    choices = resolve_all(models)
    source = data[0] if len(data) == 1 else data
    config = RunConfig(
        task=ExpressionTask.name,
        source=source,
        data=CellOptions(
            layer, spatial_key, graph, neighbors, fraction, genes, section, test_section=tuple(test_section or ())
        ),
        options=ExpressionOptions(tokens=tokens, zeros=zeros, split=split, normalize=normalize),
        train=TrainOptions(epochs=epochs, batch_size=batch_size, device=device),
        model=choices[0].name,
        hyperparameters=choices[0].hyperparameters,
        seed=0,
    )
    if seeds < 1:
        raise FIMPError(f"--seeds: {seeds} is below 1; use 3, for instance")
    graph_of_cells = load_cells(source, config.data)
    # What does not fit the data must come to light before earlier results are replaced.
    ExpressionTask(graph_of_cells, config.options, seed=0)
    comparison = Comparison(
        make_task=lambda seed: ExpressionTask(graph_of_cells, config.options, seed),
        config=config,
        choices=choices,
        seeds=seeds,
        out=out,
        deadline=deadline,
        resume=resume,
    )
    run_and_show(comparison, graph_of_cells)


def deadline_of(max_minutes: float | None, started: float) -> float | None:
    """Moment at which a command should be over."""
    if max_minutes is None:
        return None
    if not (max_minutes > 0.0 and math.isfinite(max_minutes)):
        raise FIMPError(f"--max-minutes: {max_minutes} is no positive number; use 20, for instance")
    return started + 60.0 * max_minutes


def run_and_show(comparison: Comparison, data: Any) -> dict[str, Any]:
    """Run a comparison with progress, write its table and figure, and print the table."""
    from rich.console import Console

    from fimp.analysis.figures import comparison_figure
    from fimp.analysis.tables import markdown
    from fimp.cli.progress import TerminalObserver
    from fimp.train.runs import write_text

    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no edge to wrap at
    degree = data.edge_index.size(1) / data.num_nodes
    console.print(
        f"{data.name}: {data.num_nodes:,} nodes, {data.x.size(1):,} features, {degree:.1f} neighbours per node",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for note in data.notes:
        console.print(f"  {note}", style="dim", highlight=False, markup=False, soft_wrap=True)
    try:
        with TerminalObserver(console) as observer:
            results = comparison.run(observer)
    except KeyboardInterrupt:
        console.print("Interrupted. The same command with --resume goes on from the last finished epoch.", markup=False)
        raise
    write_text(comparison.out / "results.md", markdown(results))
    comparison_figure(results, comparison.out / "results.png")
    show_table(console, results)
    console.print(
        f"{comparison.out}/results.json, results.md, results.png, runs/", markup=False, highlight=False, soft_wrap=True
    )
    return results


def show_table(console: Console, results: dict[str, Any]) -> None:
    """Print mean ± standard deviation over seeds, the best in bold."""
    from rich.table import Table

    from fimp.analysis.figures import best_row
    from fimp.analysis.tables import cell

    metrics = list(results["metrics"])
    table = Table(title=f"{results['task']} on {Path(results['data']['name']).name}", title_justify="left")
    table.add_column("model", no_wrap=True)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    table.add_column("train s", justify="right", no_wrap=True)
    best = {metric: best_row(results, metric) for metric in metrics}
    for row in results["summary"]:
        cells = [cell(row, metric, digits=3) for metric in metrics]
        cells = [f"[bold]{c}[/]" if best[m] == row["model"] else c for c, m in zip(cells, metrics, strict=True)]
        table.add_row(row["model"], *cells, str(row["n_seeds"]), f"{row['train_seconds']:.1f}")
    console.print(table)
