"""``fimp attention``: what the messages of a trained model look at, as tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

    from fimp.analysis.attention_study import AttentionStudy
    from fimp.estimators import GraphModel


def attention(
    run: Annotated[Path, typer.Argument(help="A run folder, DIR/runs/MODEL/seedK, of a model with messages.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
    data: Annotated[
        str | None, typer.Option(help="Other data that such a run reads; by default what it was trained on.")
    ] = None,
    edges: Annotated[
        str, typer.Option(help="self: of nodes to themselves; neighbors: between different nodes; all.")
    ] = "neighbors",
    between: Annotated[
        tuple[str, str] | None, typer.Option(help="Only edges from cells of one type to cells of another.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of obs with the types of cells.")] = None,
    group_by: Annotated[
        Path | None, typer.Option(help="Table with columns region and network, to sum up recordings by.")
    ] = None,
    contrast: Annotated[
        str | None, typer.Option(help="Column of obs, or of --subjects, whose two values are compared.")
    ] = None,
    groups: Annotated[tuple[str, str] | None, typer.Option(help="Which two values of --contrast.")] = None,
    cut: Annotated[float | None, typer.Option(help="Number at which --contrast is cut in two.")] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="Table of the subjects of recordings, with a column subject.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="Column of obs with independent units, such as animals, that are permuted.")
    ] = None,
    blocks: Annotated[int, typer.Option(help="Blocks of space per axis that are permuted where nothing else is.")] = 6,
    layer: Annotated[
        int | None, typer.Option(help="Layer of a foundation model, from 0; the mean over all by default.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of visible and hidden genes that are averaged over.")] = 5,
    permutations: Annotated[int, typer.Option(help="Permutations of the test.")] = 9999,
) -> None:
    """Show what a model's messages attend to: gene by gene, region by region, patch by patch.

    Writes attention.npz, pairs.csv, heatmap.png and pairs.png; for cells attention.h5ad, a copy of them with
    uns["fimp_attention"], where they have types pairs_by_type.csv, and for simulated ones planted.json; for images
    patches.png; for recordings regions.png; and with --contrast contrast.png.
    """
    if out.exists():
        raise FIMPError(f"--out: {out} exists; name a new folder or remove it")
    if not out.absolute().parent.is_dir():
        raise FIMPError(f"--out: {out.parent} is no folder; make it first")
    from fimp.analysis.attention_files import write_study
    from fimp.analysis.attention_study import AttentionOptions, attention_study
    from fimp.estimators import load
    from fimp.foundation.folders import new_folder

    options = AttentionOptions(
        edges,
        between,
        label,
        group_by,
        contrast,
        groups,
        cut,
        subjects,
        unit,
        blocks,
        layer,
        draws,
        permutations,
    )
    model = load(run, data)
    source = model.config.source if data is None else data
    study = attention_study(model, source, options)
    with new_folder(out) as temporary:
        write_study(temporary, study, model, layer, _cells(model, source))
    for note in (*model.notes, *study.notes, *_found(study)):
        typer.echo(f"  {note}")
    typer.echo(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def _cells(model: GraphModel, source: Any) -> AnnData | None:
    """A copy of the cells that were looked at, where they are one AnnData."""
    from fimp.data.reading import open_source
    from fimp.estimators import CellModel

    if not isinstance(model, CellModel) or source is None or isinstance(source, list):
        return None
    with open_source(source) as (adata, _):
        return adata.to_memory(copy=True)


def _found(study: AttentionStudy) -> list[str]:
    """What leads the ranked list, and how many differences were found."""
    said, attention, contrast = [], study.attention, study.contrast
    leading = attention.ranked().dropna(subset=["rank"]).head(5)
    if len(leading):
        pairs = zip(leading["receiver"], leading["sender"], strict=True)
        said.append(f"most specific: {', '.join(f'{receiver} ← {sender}' for receiver, sender in pairs)}")
    if study.planted is not None:
        said.append(study.planted.sentence)
    if contrast is not None:
        tested = int((contrast.p == contrast.p).sum())
        said.append(f"{int((contrast.q < 0.05).sum())} of {tested} pairs differ with q < 0.05")
    return said
