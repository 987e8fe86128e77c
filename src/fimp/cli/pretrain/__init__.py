"""``fimp pretrain``: a foundation model from data without a graph, in the layout of the published ones."""

from __future__ import annotations

import typer

from fimp.cli.pretrain import brainlm, scgpt, vit

app = typer.Typer(
    help="Pretrain a foundation model on data without a graph.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _family() -> None:
    """Pretrain a foundation model on data without a graph."""


app.command("scgpt")(scgpt.scgpt)
app.command("brainlm")(brainlm.brainlm)
app.command("vit")(vit.vit)
