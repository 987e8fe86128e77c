"""``fimp embed``: what a trained model makes of cells, written back into an AnnData."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

    from fimp.estimators import CellModel


def embed(
    run: Annotated[Path, typer.Argument(help="A run folder, DIR/runs/MODEL/seedK.")],
    data: Annotated[str, typer.Option(help="An .h5ad file, or a name that `fimp data list` shows.")],
    out: Annotated[Path, typer.Option(help="File to write; it must not exist.")],
) -> None:
    """Embed the cells of a file with a trained model.

    Writes the file's AnnData with obsm["X_fimp"] added and, for a model of cell types, obs["fimp_prediction"].
    """
    if out.suffix != ".h5ad":
        raise FIMPError(f"--out: {out} does not end in .h5ad; name an .h5ad file")
    if out.exists():
        raise FIMPError(f"--out: {out} exists; name a new file or remove it")
    if not out.parent.is_dir():
        raise FIMPError(f"--out: {out.parent} is no folder; make it first")

    from fimp.data.reading import open_source
    from fimp.estimators import load

    model = load(run, data)
    with open_source(data) as (adata, _):
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    added = add_results(model, adata)
    write_whole(adata, out)
    for note in model.notes:
        typer.echo(f"  {note}")
    typer.echo(f"{out}: {adata.n_obs:,} cells; added {' and '.join(added)}")


def add_results(model: CellModel, adata: AnnData) -> list[str]:
    """Write the model's embedding, and its prediction of cell types, into an AnnData; names what was added."""
    from fimp.estimators import CellTypeModel

    adata.obsm["X_fimp"] = model.embed()
    added = ['obsm["X_fimp"]']
    if isinstance(model, CellTypeModel):
        import pandas as pd

        adata.obs["fimp_prediction"] = pd.Categorical(model.predict(), categories=model.classes)
        added.append('obs["fimp_prediction"]')
    return added


def write_whole(adata: AnnData, out: Path) -> None:
    """Write an .h5ad file whole or not at all."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.h5ad")
    try:
        adata.write_h5ad(temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise FIMPError(f"--out: {out} cannot be written ({error}); name another place") from error
    finally:
        temporary.unlink(missing_ok=True)
