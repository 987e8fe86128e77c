"""``fimp models``: what can be compared, and what is in the folder of a foundation model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="List models, look into the folder of a foundation model.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_() -> None:
    """List the models that a comparison knows, and the families of foundation models that can be read."""
    from rich.console import Console
    from rich.table import Table

    from fimp.foundation import FAMILIES
    from fimp.models import known_models

    models = Table("model", "what")
    for spec in known_models().values():
        models.add_row(spec.name, spec.description)
    families = Table("foundation family", "folders that `fimp models info` reads")
    for family in FAMILIES.values():
        families.add_row(family.name, family.description)
    console = Console()
    console.print(models)
    console.print(families)


@app.command("info")
def info(
    folder: Annotated[Path, typer.Argument(help="Folder of a foundation model, in its published layout.")],
) -> None:
    """Read a foundation model whole and show what it is."""
    from rich.console import Console

    from fimp import foundation

    found = foundation.load(folder).info()
    vocabulary = "none" if found["vocabulary"] is None else f"{found['vocabulary']:,} tokens"
    lines = [
        f"{folder}",
        f"  family       {found['family']}",
        f"  layers       {found['layers']}",
        f"  width        {found['width']:,}",
        f"  heads        {found['heads']}",
        f"  parameters   {found['parameters']:,}",
        f"  vocabulary   {vocabulary}",
        f"  licence      {found['licence'] or 'not stated'}",
    ]
    for line in lines:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
