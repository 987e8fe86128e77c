"""``fimp pretrain``: a foundation model from data without a graph, in the layout of the published ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.cli.compare import BatchSize, Device
from fimp.cli.setups import cells
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from fimp.train.fit import Fitted

app = typer.Typer(
    help="Pretrain a foundation model on data without a graph.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _family() -> None:
    """Pretrain a foundation model on data without a graph."""


@app.command("scgpt")
def scgpt(
    data: cells.Data,
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
    outside: Annotated[
        float | None, typer.Option(help="Leave out the crop that a comparison with this --fraction uses.")
    ] = None,
    layer: cells.Layer = None,
    genes: cells.Genes = 1000,
    tokens: cells.Tokens = 50,
    mask_ratio: Annotated[float, typer.Option(help="Share of a cell's tokens whose value is hidden.")] = 0.8,
    dim: Annotated[int, typer.Option(help="Model width.")] = 64,
    layers: Annotated[int, typer.Option(help="Transformer layers.")] = 4,
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 4,
    hidden: Annotated[int, typer.Option(help="Width of the feed-forward networks.")] = 128,
    dropout: Annotated[float, typer.Option(help="Dropout.")] = 0.1,
    epochs: Annotated[int | None, typer.Option(help="Passes over the cells; by default 60 (300 to 800 steps).")] = None,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    batch_size: BatchSize = 256,
    seed: Annotated[int, typer.Option(help="Seed of weights, masks and of the cells that validate.")] = 0,
    device: Device = "auto",
) -> None:
    """Pretrain a model in scGPT's layout on cells, each on its own, by predicting hidden values.

    Writes args.json, vocab.json, best_model.pt, and how training went (pretraining.csv and .png). An interrupted
    command goes on where it stopped when it is given again.
    """
    if out.exists():
        raise FIMPError(f"--out: {out} exists; name a new folder or remove it")
    if not out.parent.is_dir():
        raise FIMPError(f"--out: {out.parent} is no folder; make it first")
    if outside is not None and not 0.0 < outside < 1.0:
        raise FIMPError(f"--outside: {outside} is outside (0, 1); use 0.05, for instance")

    from rich.console import Console

    from fimp.data.cells import CellOptions, load_cells
    from fimp.foundation.scgpt_files import save_scgpt
    from fimp.tasks import ExpressionOptions
    from fimp.train.fit import TrainOptions
    from fimp.train.foundation import ScGPTSize, pretrain_scgpt

    options = CellOptions(
        layer=layer,
        graph="none",
        genes=genes,
        fraction=1.0 if outside is None else outside,
        outside=outside is not None,
    )
    size = ScGPTSize(dim, layers, heads, hidden, dropout)
    task = ExpressionOptions(tokens=tokens, mask_ratio=mask_ratio)
    train = TrainOptions(epochs=epochs, batch_size=batch_size, device=device)
    graph = load_cells(cells.source_of(data), options)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(
        f"{graph.name}: {graph.num_nodes:,} cells, {len(graph.gene_names):,} genes", highlight=False, markup=False
    )
    for note in graph.notes:
        console.print(f"  {note}", style="dim", highlight=False, markup=False, soft_wrap=True)
    work = out.with_name(f".{out.name}.pretraining")
    given = {"data": data, "options": vars(options), "size": vars(size), "task": vars(task), "train": vars(train)}
    _same_settings(work, {**given, "lr": lr, "seed": seed})
    curve: list[float] = []
    try:
        with _bar(console) as listener:
            model, fitted = pretrain_scgpt(
                graph, size, task, train, seed, lr, work, resume=True, listener=listener, on_validation=curve.append
            )
    except FIMPError:
        if not (work / "checkpoints").exists():
            shutil.rmtree(work)
        raise
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here", highlight=False)
        raise
    save_scgpt(model, out)
    _report(work, out)
    shutil.rmtree(work)
    console.print(_said(out, fitted, curve), highlight=False, markup=False, soft_wrap=True)


def _same_settings(work: Path, settings: dict[str, Any]) -> None:
    """Keep the settings beside what is trained; refuse to go on with others."""
    import yaml

    from fimp.train.runs import write_text

    text = yaml.safe_dump({key: str(value) for key, value in settings.items()}, sort_keys=False)
    path = work / "config.yaml"
    if path.is_file() and path.read_text() != text:
        raise FIMPError(f"--out: {work} holds an interrupted run of other settings; give these again or remove it")
    write_text(path, text)


def _said(out: Path, fitted: Fitted, curve: list[float]) -> str:
    score = f", validation r2 {max(curve):.4f}" if curve else ""
    return f"{out}: {fitted.steps} steps, {fitted.train_seconds:.0f} s{score}; use it as fimp:{out}"


def _report(work: Path, out: Path) -> None:
    """How training went, into the folder of the model."""
    from fimp.analysis.figures import training_figure
    from fimp.train.callbacks import read_metrics

    if (work / "metrics.csv").is_file():
        shutil.copy(work / "metrics.csv", out / "pretraining.csv")
        training_figure(read_metrics(work / "metrics.csv"), out / "pretraining.png")


def _bar(console: Any) -> Any:
    from contextlib import contextmanager

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    @contextmanager
    def bar() -> Any:
        columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
        text = TextColumn("{task.fields[text]}", style="dim")
        with Progress(*columns, text, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("pretraining", total=1.0, text="")
            yield lambda share, what: progress.update(task, completed=share, text=what)

    return bar()
