"""The sections on scores and on training."""

from __future__ import annotations

import json
from typing import Any

from fimp.analysis.figures import LABELS
from fimp.analysis.intervals import interval_figure
from fimp.analysis.report.found import FoundRun
from fimp.analysis.report.page import Section, Table, draw
from fimp.analysis.report.view import View
from fimp.analysis.tables import cell, interval_text, monitored, p_text
from fimp.analysis.training_curves import training_curves
from fimp.models.checkpoints import short_name
from fimp.train.callbacks import read_metrics
from fimp.train.statistics import bootstrap, interval

_READING = (
    "Scores are of test nodes, which no model was trained or chosen on. The interval says how far a score would move "
    "with other test nodes like these (bootstrap, 95 %); dots say how far it moves with split and weights. A "
    "difference counts as better or worse only where its interval leaves out 0 and, with two seeds or more, the "
    "corrected resampled t-test over seeds gives p < 0.05; anything else is within noise."
)


def score_section(run: FoundRun, view: View | None) -> Section:
    """Scores with intervals, against baselines where there is a comparison."""
    section = Section("scores", "Scores")
    if run.results is None:
        section.text.append("This run belongs to no comparison, so there are no baselines to hold it against.")
        _alone(section, run, view)
        return section
    section.text.append(_READING)
    results, metric = run.results, run.results["monitor"]
    header = ["model", *map(label, results["metrics"]), f"interval of {label(metric)}", "seeds", "training s"]
    rows = [_row(row, results) for row in results["summary"]]
    strong = tuple(k for k, row in enumerate(results["summary"]) if row["model"] == run.config.model)
    section.parts.append(
        Table("Mean ± standard deviation over seeds", header, rows, tuple(range(1, len(header))), strong)
    )
    if entries := monitored(results):
        baseline = short_name(entries[0]["baseline"])
        section.parts.append(
            Table(
                f"Difference in {label(metric)} to {baseline}, the best baseline",
                ["model", "difference", "95 % interval", "p", "verdict"],
                [_difference(entry) for entry in entries],
                (1, 2, 3),
                tuple(k for k, entry in enumerate(entries) if entry["model"] == run.config.model),
            )
        )
    caption = f"{label(metric)} on test nodes: dots are seeds, upright strokes their mean, lines the 95 % interval."
    alt = f"{label(metric)} of {len(rows)} models with intervals"
    section.parts.append(draw("intervals", alt, lambda: (interval_figure(results), caption)))
    if not run.is_comparison:
        own = _stored(run)
        said = ", ".join(f"{label(name)} {value:.4f}" for name, value in own.items() if value is not None)
        section.text.append(f"This run is seed {run.config.seed} of {short_name(run.config.model)}: {said}.")
    return section


def training_section(run: FoundRun) -> Section | None:
    """Curves of everything that was trained; None where nothing was."""
    models = [row["model"] for row in run.results["summary"]] if run.results else [run.config.model]
    curves = {model: [read_metrics(folder / "metrics.csv") for folder in run.of_model(model)] for model in models}
    curves = {model: kept for model, found in curves.items() if (kept := [rows for rows in found if rows])}
    if not curves:
        return None
    monitor = run.results["monitor"] if run.results else _monitor(next(iter(curves.values())))
    caption = (
        f"A line per run. The weights with the best {label(monitor)} on validation nodes are the ones that are tested, "
        "so a curve that falls at its end does no harm."
    )
    section = Section("training", "Training")
    alt = f"Training loss and validation {label(monitor)} over steps of {len(curves)} models"
    section.parts.append(draw("curves", alt, lambda: (training_curves(curves, monitor), caption)))
    return section


def label(metric: str) -> str:
    """What a metric is called in tables and sentences."""
    return LABELS.get(metric, metric).removesuffix(" (lower is better)")


def bounds_text(bounds: list[float] | None) -> str:
    """Two numbers; a dash where there are none."""
    return "–" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _alone(section: Section, run: FoundRun, view: View | None) -> None:
    """Scores of a run without a comparison: predicted anew, with an interval over nodes."""
    if view is None:
        return
    task, name = view.model.task, run.config.model
    metrics = task.score(view.outcome)
    bounds = interval(bootstrap(task, {name: task.node_statistics(view.outcome)}, task.units(view.outcome))[name])
    rows = [
        [label(metric), f"{value:.4f}", bounds_text(bounds) if metric == task.monitor else "–"]
        for metric, value in metrics.items()
    ]
    section.parts.append(
        Table(f"{short_name(name)} on {view.which}", ["metric", "score", "95 % interval"], rows, (1, 2))
    )
    section.text.append("The interval says how far a score would move with other test nodes like these (bootstrap).")


def _row(row: dict[str, Any], results: dict[str, Any]) -> list[str]:
    cells = [cell(row, metric) for metric in results["metrics"]]
    ends = [bounds_text(row["interval"]), str(row["n_seeds"]), f"{row['train_seconds']:.1f}"]
    return [short_name(row["model"]), *cells, *ends]


def _difference(entry: dict[str, Any]) -> list[str]:
    p_value = "–" if entry["p_value"] is None else p_text(entry["p_value"])
    mean = entry["mean_difference"]
    shown = "–" if mean is None else f"{mean:+.4f}"
    return [short_name(entry["model"]), shown, interval_text(entry), p_value, entry["verdict"]]


def _stored(run: FoundRun) -> dict[str, float | None]:
    assert run.results is not None
    found = [
        entry["metrics"]
        for entry in run.results["runs"]
        if entry["model"] == run.config.model and entry["seed"] == run.config.seed
    ]
    path = run.shown / "results.json"
    stored: dict[str, float | None] = found[0] if found else json.loads(path.read_text())["metrics"]
    return stored


def _monitor(runs: list[list[dict[str, Any]]]) -> str:
    """Of the validated metrics, the one that models are chosen by as a rule."""
    names = [name.removeprefix("val_") for name in runs[0][0] if name.startswith("val_")]
    for name in ("roc_auc", "r2", "accuracy"):
        if name in names:
            return name
    return names[0]
