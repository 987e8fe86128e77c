"""The section on what a model makes of nodes and genes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure

from fimp.analysis.gene_embedding import gene_embedding
from fimp.analysis.node_embedding import node_embedding
from fimp.analysis.report.page import Picture, Section, draw
from fimp.analysis.report.view import EMBEDDED, View, some
from fimp.data.cell_graph import cell_values
from fimp.data.disk_matrix import column_sums
from fimp.errors import FIMPError
from fimp.tokenizers import GeneTokenizer

#: Cell types that get a panel.
_PANELS = 2


def embedding_section(view: View) -> tuple[Section | None, list[str]]:
    """Nodes and genes as the model sees them, and what could not be shown."""
    section, left_out = Section("embeddings", "What it learned"), []
    parts: list[tuple[str, Callable[[View], Picture | None]]] = [("nodes", _nodes), ("genes", _gene_names)]
    for name, make in parts:
        try:
            picture = make(view)
        except FIMPError as error:
            left_out.append(f"Embedding of {name}: {error}.")
            continue
        if picture is not None:
            section.parts.append(picture)
    return (section if section.parts else None), left_out


def _nodes(view: View) -> Picture | None:
    task = view.model.task
    nodes = some(task.split["test"], EMBEDDED, task.together)
    if len(nodes) < 3:
        return None
    embedding = view.model.embed_nodes(nodes)
    kind = view.model.nodes if view.recordings is None else "regions in windows"
    classes, values, shown = view.coloured(nodes), None, "their class"
    if view.recordings is not None:
        shown = "the network of the region"
        if classes is None:
            values, shown = (view.recordings.regions.xyz[nodes % task.regions, 1], "y of the region"), "where it lies"
    elif classes is None:
        total = np.asarray(cell_values(task.data)[nodes].sum(axis=1)).ravel()
        values, shown = (total, "sum of the cell's values"), "the sum of their values"

    def make() -> tuple[Figure, str]:
        figure, how = node_embedding(embedding, classes=classes, values=values)
        said = f"{len(nodes):,} test {kind} as the model sees them, in two dimensions ({how}); colours show {shown}."
        return figure, said

    return draw("nodes", "Embedding of nodes in two dimensions", make)


def _gene_names(view: View) -> Picture | None:
    """Genes by the embedding that a model of gene tokens has of them; None for other models."""
    encoder = getattr(view.model.network, "encoder", None) or getattr(view.model.network, "reader", None)
    tokenizer = getattr(encoder, "tokenizer", None)
    names = view.model.data.get("gene_names")
    if not isinstance(tokenizer, GeneTokenizer) or names is None or len(names) < 3:
        return None
    with torch.no_grad():
        embedding = tokenizer.names(torch.arange(len(names))).numpy()
    x, labels, classes = cell_values(view.model.data), view.model.data.get("y"), view.class_names
    panels = [("all cells", column_sums(x) / x.shape[0])]
    if labels is not None and classes is not None:
        count = np.bincount(labels.numpy()[labels.numpy() >= 0], minlength=len(classes))
        frequent = [int(k) for k in np.argsort(-count, kind="stable")[:_PANELS] if count[k]]
        panels = [(classes[k], column_sums(x, np.flatnonzero(labels.numpy() == k)) / count[k]) for k in frequent]

    def make() -> tuple[Figure, str]:
        figure, how = gene_embedding(embedding, [str(name) for name in names], panels)
        return figure, (
            f"{len(names):,} genes by the embeddings that the model has of them, in two dimensions ({how}), coloured "
            "by mean expression; the most expressed are named (paper figure 5B)."
        )

    return draw("genes", "Embedding of genes in two dimensions", make)
