"""``fimp report``: one HTML file that shows what a run found."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fimp.analysis.report import FoundRun


def report(
    run: Annotated[Path, typer.Argument(help="What fimp compare --out named, or a run folder, DIR/runs/MODEL/seedK.")],
) -> None:
    """Write RUN/report.html: data, scores with intervals, training, predictions and how to reproduce them.

    One file that needs no other and no network. Figures that fimp attention RUN --out RUN/attention wrote are shown.
    """
    from fimp.analysis.report import find_run, write_report

    found = find_run(run)
    path, left_out = write_report(found, commands(found))
    for sentence in left_out:
        typer.echo(f"  left out: {sentence}")
    typer.echo(f"{path}: {path.stat().st_size / 1000:,.0f} kB")


def commands(found: FoundRun) -> list[tuple[str, str]]:
    """What repeats the results: a sentence and a command each."""
    from fimp.cli.command_line import compare_command

    out = []
    if found.is_comparison and found.results is not None:
        models = [row["model"] for row in found.results["summary"]]
        seeds = max(row["n_seeds"] for row in found.results["summary"])
        whole = compare_command(found.config, models, seeds, found.folder.with_name(f"{found.folder.name}-again"))
        if whole is not None:
            tuned = "The whole comparison, with the hyperparameters that the models come with"
            out.append((f"{tuned}; those of the runs are in the table above.", whole))
    if found.config.source is None:
        load = f"import fimp\nmodel = fimp.load({str(found.shown)!r})\nmodel.evaluate()"
        out.append(("The data was handed over in memory, and the run keeps it. In Python:", load))
    else:
        sentence = "The run that pictures are of, trained again from its configuration, to the digit on this machine:"
        out.append((sentence, shlex.join(["fimp", "repeat", str(found.shown)])))
    return out
