"""The section on what a model predicts for test nodes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fimp.analysis.class_maps import class_maps
from fimp.analysis.classes import Classes
from fimp.analysis.confusion import confusion_figure
from fimp.analysis.expression_maps import HiddenValues, expression_maps, scored_genes
from fimp.analysis.graph_picture import MOST
from fimp.analysis.image_examples import image_examples
from fimp.analysis.reconstruction import reconstruction_figure
from fimp.analysis.report.found import FoundRun
from fimp.analysis.report.page import Section, Table, draw
from fimp.analysis.report.view import View, some
from fimp.data.masking import EVALUATION
from fimp.models.checkpoints import short_name
from fimp.tasks.classification import ClassificationTask
from fimp.train.single import example

#: Images that are shown, genes that are listed.
_IMAGES, _GENES = 8, 10


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
