"""``fimp pretrain``: a foundation model from data without a graph, in the layout of the published ones."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from fimp.cli.compare import BatchSize, Device
from fimp.cli.setups import cells
from fimp.errors import FIMPError

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
    spatial_key: cells.SpatialKey = "spatial",
    section: cells.Section = None,
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
    if not 0.0 < lr < math.inf:
        raise FIMPError(f"--lr: {lr} is no positive number; use 0.001, for instance")
    if seed < 0:
        raise FIMPError(f"--seed: {seed} is negative; use 0, for instance")

    from rich.console import Console

    from fimp.data.cells import CellOptions, load_cells
    from fimp.foundation.scgpt_files import save_scgpt
    from fimp.tasks import ExpressionOptions
    from fimp.train.fit import TrainOptions
    from fimp.train.foundation import ScGPTSize, pretrain_scgpt

    options = CellOptions(
        layer=layer,
        spatial_key=spatial_key,
        graph="none",
        genes=genes,
        fraction=1.0 if outside is None else outside,
        section=section,
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
    try:
        with _bar(console) as listener:
            model, fitted = pretrain_scgpt(graph, size, task, train, seed, lr, work, resume=True, listener=listener)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here", highlight=False)
        raise
    except Exception:
        if not (work / "checkpoints").exists():
            shutil.rmtree(work)
        raise
    save_scgpt(model, out)
    best = _report(work, out)
    shutil.rmtree(work)
    said = f"{out}: {fitted.steps} steps, {fitted.train_seconds:.0f} s{best}; use it as fimp:{out}"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


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
