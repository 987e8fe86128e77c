"""Put a report together and write it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fimp
from fimp.analysis.report.attention import attention_section
from fimp.analysis.report.content import data_name, data_section
from fimp.analysis.report.embeddings import embedding_section
from fimp.analysis.report.found import FoundRun
from fimp.analysis.report.page import Page
from fimp.analysis.report.predictions import prediction_section
from fimp.analysis.report.scores import bounds_text, label, score_section, training_section
from fimp.analysis.report.settings import reproduction_section, settings_section
from fimp.analysis.report.view import View
from fimp.analysis.tables import interval_text, monitored, p_text, without_p
from fimp.errors import FIMPError
from fimp.models.checkpoints import short_name
from fimp.tasks.base import Task
from fimp.train.compare import REPORT
from fimp.train.runs import write_text


def write_report(run: FoundRun, commands: Callable[[Task | None], list[tuple[str, str]]]) -> tuple[Path, list[str]]:
    """Write ``report.html`` into a run's folder, whole or not at all.

    Parameters
    ----------
    run
        From :func:`fimp.analysis.report.find_run`.
    commands
        Gives what repeats the results, a sentence and a command each, for the task of the run where it is at hand.

    Returns
    -------
    Path, list of str
        The file, and what was left out of it and why.

    Raises
    ------
    FIMPError
        If the file cannot be written.
    """
    path = run.folder / REPORT
    if not os.access(run.folder, os.W_OK) or path.is_dir():
        raise FIMPError(f"{path}: cannot be written; make the folder writable, or copy the run elsewhere")
    page = build_page(run, commands)
    try:
        write_text(path, page.html())
    except OSError as error:
        path.with_name(f".{path.name}.{os.getpid()}").unlink(missing_ok=True)
        raise FIMPError(f"{path}: cannot be written ({error}); make room, or copy the run elsewhere") from error
    return path, page.left_out


def build_page(run: FoundRun, commands: Callable[[Task | None], list[tuple[str, str]]]) -> Page:
    """All that there is to tell of a run; see :func:`write_report`."""
    left_out: list[str] = []
    view = None
    try:
        view = View.of(run)
    except FIMPError as error:
        left_out.append(
            f"Pictures of data and predictions need the run's data and model, and one is not at hand: {error}."
        )
    sections: list[Any] = [score_section(run, view), data_section(run, view), training_section(run)]
    if view is not None:
        sections.append(prediction_section(run, view))
        learned, missing = embedding_section(view)
        sections.append(learned)
        left_out += missing
    try:
        sections.append(attention_section(run))
    except FIMPError as error:
        left_out.append(f"Attention: {error}.")
    sections += [settings_section(run), reproduction_section(run, commands(None if view is None else view.model.task))]
    return Page(
        title=f"{run.config.task} on {data_name(run)}",
        lead=_lead(run),
        facts=_facts(run, view),
        sections=[section for section in sections if section is not None],
        left_out=left_out,
        footer=f"Written by fimp {fimp.__version__}. This file needs no other and no network.",
    )


def _lead(run: FoundRun) -> str:
    """The result in a sentence or two."""
    model = short_name(run.config.model)
    if run.results is None:
        return f"A run of {model}, seed {run.config.seed}, without a comparison to hold it against."
    metric, results = run.results["monitor"], run.results
    row = next((row for row in results["summary"] if row["model"] == run.config.model), None)
    mean = None if row is None else row["metrics"][metric]["mean"]
    if row is None or mean is None or mean != mean:
        return f"{model} has no score in this comparison."
    said = f"{model} reaches {label(metric)} {mean:.3f} on test nodes (95 % interval {bounds_text(row['interval'])})"
    entry = next((one for one in monitored(results) if one["model"] == run.config.model), None)
    if entry is None:
        return f"{said}."
    known = [] if entry["interval"] is None else [interval_text(entry)]
    known += [] if entry["p_value"] is None else [f"p {p_text(entry['p_value'])} over {entry['n_seeds']} seeds"]
    verdict = "which is within noise" if entry["verdict"] == "within noise" else f"which is {entry['verdict']}"
    baseline, difference = short_name(entry["baseline"]), entry["mean_difference"]
    evidence = "; ".join(known) or without_p(entry)
    return f"{said}. Against {baseline}, the best baseline, that is {difference:+.4f} ({evidence}), {verdict}."


def _facts(run: FoundRun, view: View | None) -> list[tuple[str, str]]:
    facts = [("model shown", short_name(run.config.model))]
    if run.results is not None:
        data = run.results["data"]
        facts += [("nodes", f"{data['n_nodes']:,}"), ("edges", f"{data['n_edges']:,}")]
        facts.append(("models compared", str(len(run.results["summary"]))))
        facts.append(("seeds", str(max(row["n_seeds"] for row in run.results["summary"]))))
    elif view is not None:
        data = view.model.task.data
        facts += [("nodes", f"{data.num_nodes:,}"), ("edges", f"{data.edge_index.size(1):,}")]
        facts.append(("epochs", f"{view.model.epochs:,}"))
    return facts
