"""Flags of the task ``node``."""

from __future__ import annotations

from typing import Annotated

import typer

from fimp.cli.setups.base import Setup
from fimp.errors import FIMPError


def setup(
    data: Annotated[str, typer.Option(help="An .npz file, or a dataset of PyG such as Cora, Texas or Minesweeper.")],
    undirected: Annotated[bool, typer.Option("--undirected", help="Add the reverse of every edge.")] = False,
    tokens: Annotated[int, typer.Option(help="Most nonzero features of a node that become tokens.")] = 64,
    tokenizer: Annotated[
        str, typer.Option(help="features: a token per nonzero feature; grouped: per group of features; or auto.")
    ] = "auto",
    groups: Annotated[int, typer.Option(help="Groups of features, for grouped.")] = 16,
    class_weights: Annotated[str, typer.Option(help="none, or balanced: rare classes weigh more.")] = "none",
) -> Setup:
    """Classify the nodes of any graph with features."""
    if not data.strip():
        raise FIMPError("--data: empty; pass an .npz file or the name of a dataset of PyG, such as Cora")

    from fimp.data.nodes import NodeOptions
    from fimp.tasks import NodeTaskOptions

    return Setup("node", data, NodeOptions(undirected), NodeTaskOptions(tokens, tokenizer, groups, class_weights))
