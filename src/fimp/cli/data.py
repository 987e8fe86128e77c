"""``fimp data``: what data there is, and what is in a file."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="List named datasets, look into a file.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_() -> None:
    """List the named datasets."""
    from rich.console import Console
    from rich.table import Table

    from fimp.data.datasets import DATASETS

    table = Table("name", "what", "from")
    for dataset in DATASETS.values():
        table.add_row(dataset.name, dataset.description, dataset.origin)
    Console().print(table)


@app.command("info")
def info(
    file: Annotated[str, typer.Argument(help="An .h5ad file, a .zarr store, or a name that `fimp data list` shows.")],
    layer: Annotated[str | None, typer.Option(help="Layer with the values, X or raw; chosen by default.")] = None,
    spatial_key: Annotated[str, typer.Option(help="Key of the coordinates in obsm.")] = "spatial",
    graph: Annotated[str, typer.Option(help="auto, knn, radius, delaunay or expression.")] = "auto",
    neighbors: Annotated[int, typer.Option(help="Neighbours per cell.")] = 8,
    genes: Annotated[int, typer.Option(help="Number of genes kept, the most variable.")] = 1000,
    min_counts: Annotated[int, typer.Option(help="Cells of fewer counts say nothing; they stay in the graph.")] = 10,
    section: Annotated[
        str | None, typer.Option(help="Column of obs with sections, or none; recognised by default.")
    ] = None,
) -> None:
    """Show what a comparison would read from a file."""
    import numpy as np
    from rich.console import Console

    from fimp.data.cells import CellOptions, load_cells
    from fimp.data.columns import listed
    from fimp.data.disk_matrix import row_blocks
    from fimp.data.labels import label_candidates
    from fimp.data.reading import open_source

    options = CellOptions(layer, spatial_key, graph, neighbors, genes=genes, section=section, min_counts=min_counts)
    with open_source(file) as (adata, name):
        data = load_cells(adata, options, name=name)
        labels = [f"{column} ({count})" for column, count in label_candidates(adata.obs).items()]
        of_genes = f" of {adata.n_vars:,}" if adata.n_vars > len(data.gene_names) else ""
    values = data.values
    per_cell = np.diff(values.indptr)
    ends = np.array([(block.data.min(), block.data.max()) for _, block in row_blocks(values) if block.nnz])
    least, most = ends[:, 0].min(), ends[:, 1].max()
    degree = np.bincount(data.edge_index[1].numpy(), minlength=data.num_nodes)
    where = "none" if data.pos is None else f"{data.pos.size(1)}-D"
    sections = "one"
    if data.section is not None and data.section_names is not None:
        sizes = np.bincount(data.section.numpy() + 1, minlength=len(data.section_names) + 1)[1:]
        each = zip(data.section_names, sizes, strict=True)
        sections = f"{len(sizes)}: {listed(f'{one} ({size:,} cells)' for one, size in each)}"
    low, middle, high = np.percentile(per_cell, [5, 50, 95])
    lines = [
        f"{data.name}",
        f"  cells            {data.num_nodes:,} ({int((per_cell == 0).sum()):,} without any value)",
        f"  genes            {values.shape[1]:,}{of_genes}",
        f"  values           {values.nnz:,} not zero, {least:.4g} to {most:.4g}",
        f"  genes per cell   {middle:.0f} (5 % to 95 %: {low:.0f} to {high:.0f})",
        f"  coordinates      {where}",
        f"  sections         {sections}",
        f"  label columns    {listed(labels) or 'none'}",
        f"  edges            {data.edge_index.size(1):,}; {degree.mean():.1f} in-neighbours per cell, "
        f"{int((degree == 0).sum()):,} cells without",
        *(f"  note             {note}" for note in data.notes),
    ]
    for line in lines:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
