"""``fimp pretrain scgpt``: a model in scGPT's layout from cells without a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.cli.compare import BatchSize, Device, Precision, Shard
from fimp.cli.pretrain import running
from fimp.cli.setups import cells
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from pathlib import Path

    from fimp.train.fit import Fitted


def scgpt(
    data: cells.Data,
    out: running.Out,
    outside: Annotated[
        float | None, typer.Option(help="Leave out the crop that a comparison with this --fraction uses.")
    ] = None,
    layer: cells.Layer = None,
    spatial_key: cells.SpatialKey = "spatial",
    section: cells.Section = None,
    genes: cells.Genes = 1000,
    min_counts: cells.MinCounts = 10,
    tokens: cells.Tokens = 50,
    mask_ratio: Annotated[float, typer.Option(help="Share of a cell's tokens whose value is hidden.")] = 0.8,
    dim: running.Dim = 64,
    layers: running.Layers = 4,
    heads: running.Heads = 4,
    hidden: running.Hidden = 128,
    dropout: running.Dropout = 0.0,
    epochs: running.Epochs = None,
    lr: running.LearningRate = 3e-3,
    batch_size: BatchSize = 256,
    seed: running.Seed = 0,
    device: Device = "auto",
    precision: Precision = "32",
    shard: Shard = False,
) -> None:
    """Pretrain a model in scGPT's layout on cells, each on its own, by predicting hidden values.

    Writes args.json, vocab.json, best_model.pt, and how training went (pretraining.csv and .png). An interrupted
    command goes on where it stopped when it is given again.
    """
    running.check(out, lr, seed, shard)
    if outside is not None and not 0.0 < outside < 1.0:
        raise FIMPError(f"--outside: {outside} is outside (0, 1); use 0.05, for instance")

    from fimp.data.cells import CellOptions, load_cells
    from fimp.foundation.scgpt_files import save_scgpt
    from fimp.tasks import ExpressionOptions
    from fimp.train.foundation.scgpt import ScGPTSize, pretrain_scgpt
    from fimp.train.options import TrainOptions

    options = CellOptions(
        layer=layer,
        spatial_key=spatial_key,
        graph="none",
        genes=genes,
        fraction=1.0 if outside is None else outside,
        section=section,
        outside=outside is not None,
        min_counts=min_counts,
    )
    size = ScGPTSize(dim, layers, heads, hidden, dropout)
    task = ExpressionOptions(tokens=tokens, mask_ratio=mask_ratio)
    train = TrainOptions(epochs=epochs, batch_size=batch_size, device=device, precision=precision, shard=shard)
    graph = load_cells(cells.source_of(data), options)

    def run(folder: Path, **arguments: Any) -> tuple[running.Save, Fitted]:
        model, fitted = pretrain_scgpt(graph, size, task, train, seed, lr, folder, **arguments)
        return lambda place: save_scgpt(model, place), fitted

    given = {"data": data, "options": vars(options), "size": vars(size), "task": vars(task), "train": vars(train)}
    said = f"{graph.name}: {graph.num_nodes:,} cells, {len(graph.gene_names):,} genes"
    running.pretrain(out, {**given, "lr": lr, "seed": seed}, said, graph.notes, run)
