"""``fimp report``: one HTML file that shows what a run found."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fimp.analysis.report import FoundRun
    from fimp.tasks.base import Task


def report(
    run: Annotated[Path, typer.Argument(help="What fimp compare --out named, or a run folder, DIR/runs/MODEL/seedK.")],
) -> None:
    """Write RUN/report.html: data, scores with intervals, training, predictions and how to reproduce them.

    One file that needs no other and no network. Figures that fimp attention RUN --out RUN/attention wrote are shown.
    """
    from fimp.analysis.report import find_run, write_report

    found = find_run(run)
    path, left_out = write_report(found, lambda task: commands(found, task))
    for sentence in left_out:
        typer.echo(f"  left out: {sentence}")
    typer.echo(f"{path}: {path.stat().st_size / 1000:,.0f} kB")


def commands(found: FoundRun, task: Task | None) -> list[tuple[str, str]]:
    """What repeats the results: a sentence and a command each.

    Parameters
    ----------
    found
        What the report is about.
    task
        Its task, which knows the hyperparameters that models have by default; None where it is not at hand.
    """
    from fimp.cli.command_line import compare_command

    out = []
    if found.is_comparison and found.results is not None:
        models = [row["model"] for row in found.results["summary"]]
        seeds = max(row["n_seeds"] for row in found.results["summary"])
        whole = compare_command(found.config, models, seeds, found.folder.with_name(f"{found.folder.name}-again"))
        if whole is not None:
            out.append((_about(found, task), whole))
    if found.config.source is None:
        load = f"import fimp\nmodel = fimp.load({str(found.shown)!r})\nmodel.evaluate()"
        out.append(("The data was handed over in memory, and the run keeps it. In Python:", load))
    else:
        sentence = "The run that pictures are of, trained again from its configuration, to the digit on this machine:"
        out.append((sentence, shlex.join(["fimp", "repeat", str(found.shown)])))
    return out


def _about(found: FoundRun, task: Task | None) -> str:
    """What the command of the whole comparison repeats, and what it does not."""
    from fimp.models import resolve

    assert found.results is not None
    said = ["The whole comparison:"]
    if found.config.planned_steps is not None:
        said.insert(0, "It had a time budget, which this command leaves out.")
    if task is not None:
        for name, stored in found.results["settings"]["hyperparameters"].items():
            if asdict(task.with_defaults(resolve(name)).hyperparameters) != stored:
                said.insert(0, "Hyperparameters were tuned: add --tuned with the folder of fimp tune.")
                break
    return " ".join(said)
