"""The sections on what a model predicts, and on what it makes of nodes and genes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure

from fimp.analysis.class_maps import class_maps
from fimp.analysis.classes import Classes
from fimp.analysis.confusion import confusion_figure
from fimp.analysis.expression_maps import HiddenValues, expression_maps, scored_genes
from fimp.analysis.gene_embedding import gene_embedding
from fimp.analysis.graph_picture import MOST
from fimp.analysis.image_examples import image_examples
from fimp.analysis.node_embedding import node_embedding
from fimp.analysis.reconstruction import reconstruction_figure
from fimp.analysis.report.found import FoundRun
from fimp.analysis.report.page import Picture, Section, Table, draw
from fimp.analysis.report.view import EMBEDDED, View, some
from fimp.data.cell_graph import to_scipy
from fimp.data.masking import EVALUATION
from fimp.errors import FIMPError
from fimp.models.checkpoints import short_name
from fimp.tasks.classification import ClassificationTask
from fimp.tokenizers import GeneTokenizer
from fimp.train.single import example

#: Images that are shown, genes that are listed, cell types that get a panel.
_IMAGES, _GENES, _PANELS = 8, 10, 2


def prediction_section(run: FoundRun, view: View) -> Section | None:
    """What the model predicts for test nodes; None where there is nothing to show."""
    section = Section("predictions", "Predictions")
    model = short_name(view.model.config.model)
    seed = view.model.config.seed
    section.text.append(f"Of {model}, seed {seed}, for {view.which}, on which it was not trained.")
    if isinstance(view.model.task, ClassificationTask):
        _classes(section, view)
    elif view.recordings is not None:
        section.parts.append(
            draw("signals", "Signals of some regions, recorded and filled in", lambda: _signals(run, view))
        )
    else:
        _genes(section, view)
    return section if section.parts else None


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


def _classes(section: Section, view: View) -> None:
    node, truth, predicted = view.classes()
    names = view.class_names or []
    caption = "Rows are true classes, each a share of 1 over what it was taken for; right is on the diagonal."
    section.parts.append(
        draw(
            "confusion",
            "Which classes are taken for which",
            lambda: (confusion_figure(truth, predicted, names), caption),
        )
    )
    place = np.full(int(view.model.task.data.num_nodes), -1)
    place[view.layout.nodes] = np.arange(len(view.layout.nodes))
    inside = place[node] >= 0
    if view.layout.real and inside.sum() > 1:
        xy = view.layout.xy[place[node[inside]]]
        classes = Classes.of(view.model.task.data.y.numpy(), names)
        said = f"{int(inside.sum()):,} test {view.model.nodes}, {view.layout.about}. Colours are those of the classes."
        section.parts.append(
            draw(
                "maps",
                "Maps of true classes, predicted classes and errors",
                lambda: (class_maps(truth[inside], predicted[inside], xy, classes), said),
            )
        )
    pixels = view.model.data.get("pixels")
    if pixels is not None:
        chosen = np.sort(np.random.default_rng(0).permutation(len(node))[:_IMAGES])
        shown = pixels.views(node[chosen], int(view.model.data.image_size), EVALUATION, view.model.config.seed)
        labels = ([names[k] for k in truth[chosen]], [names[k] for k in predicted[chosen]])
        said = f"{len(chosen)} test images, drawn at random: ✓ the class, or ✗ what it was taken for and what it is."
        section.parts.append(
            draw("images", "Some test images with predicted classes", lambda: (image_examples(shown, *labels), said))
        )


def _genes(section: Section, view: View) -> None:
    values = HiddenValues(*(view.outcome[place].numpy() for place in (0, 3, 2, 1)))
    ranked, names = scored_genes(values), view.model.data.gene_names
    if not ranked:
        return
    middle = ranked[len(ranked) // 2]
    if view.layout.real:
        xy = np.full((int(view.model.data.num_nodes), 2), np.nan)
        xy[view.layout.nodes] = view.layout.xy
        inside = values.take(np.isfinite(xy[values.cell, 0]))
        rows = [
            (f"{names[gene]} ({what}, R² {score:.2f})", gene)
            for what, (score, gene) in (("best", ranked[0]), ("median", middle))
        ]
        drawn = some(view.layout.nodes, MOST)
        cells = "test cells that express the gene" if view.model.config.options.zeros == 0.0 else "test cells"
        caption = (
            f"Hidden values of {cells}, each predicted from the cell's other genes and its "
            "neighbours: of all genes the one predicted best and the median one (R² within the gene). Grey: other "
            f"cells; {view.layout.about}."
        )
        section.parts.append(
            draw(
                "maps",
                "Maps of measured expression, prediction and error of two genes",
                lambda: (expression_maps(inside, xy, drawn, rows[: 1 if middle == ranked[0] else 2]), caption),
            )
        )
    count = np.bincount(values.gene, minlength=len(names))
    few = [*ranked[:_GENES]]
    section.parts.append(
        Table(
            f"Genes predicted best, of {len(ranked):,} with enough hidden values",
            ["gene", "R² within the gene", "hidden values"],
            [[str(names[gene]), f"{score:.3f}", f"{count[gene]:,}"] for score, gene in few],
            (1, 2),
        )
    )


def _signals(run: FoundRun, view: View) -> tuple[Figure, str]:
    """Recorded and predicted signals, of every model of the comparison where there is one."""
    task, seed = view.model.task, view.model.config.seed
    if run.is_comparison and run.results is not None:
        runs = {row["model"]: run.of_model(row["model"]) for row in run.results["summary"]}
        folders = {m: [f for f in found if f.name == f"seed{seed}"] for m, found in runs.items()}
        examples = {model: one for model, found in folders.items() if found and (one := example(found[0])) is not None}
        results = run.results
    else:
        name = view.model.config.model
        examples = {name: task.example(view.outcome)}
        results = {"runs": [{"model": name, "seed": seed, "metrics": task.score(view.outcome)}]}
    caption = "Shaded: hidden from the models. Grey: what was recorded. R² is over all hidden values of the test part."
    return reconstruction_figure(task, examples, results), caption


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
        total = np.asarray(to_scipy(task.data.x)[nodes].sum(axis=1)).ravel()
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
    x, labels, classes = to_scipy(view.model.data.x), view.model.data.get("y"), view.class_names
    panels = [("all cells", np.asarray(x.mean(axis=0)).ravel())]
    if labels is not None and classes is not None:
        count = np.bincount(labels.numpy()[labels.numpy() >= 0], minlength=len(classes))
        frequent = [int(k) for k in np.argsort(-count, kind="stable")[:_PANELS] if count[k]]
        panels = [(classes[k], np.asarray(x[labels.numpy() == k].mean(axis=0)).ravel()) for k in frequent]

    def make() -> tuple[Figure, str]:
        figure, how = gene_embedding(embedding, [str(name) for name in names], panels)
        return figure, (
            f"{len(names):,} genes by the embeddings that the model has of them, in two dimensions ({how}), coloured "
            "by mean expression; the most expressed are named (paper figure 5B)."
        )

    return draw("genes", "Embedding of genes in two dimensions", make)
