"""``fimp repeat``: train a run again from its stored configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fimp.errors import FIMPError


def repeat(
    run: Annotated[Path, typer.Argument(help="A run folder, DIR/runs/MODEL/seedK.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the new run; kept nowhere by default.")] = None,
) -> None:
    """Train a run again from its config.yaml and say whether the digits agree."""
    from fimp.train.evaluation import evaluate
    from fimp.train.fit import fit
    from fimp.train.runs import RunConfig, write_json
    from fimp.train.single import threads

    config = RunConfig.load(run)
    config.check_files()
    if config.source is None:
        raise FIMPError(f"{run}: its data was handed over in memory; only runs on files and named datasets repeat")
    if config.processes > 1:
        raise FIMPError(f"{run}: {config.processes} processes trained it together, and one cannot repeat that")
    if out is not None and out.exists():
        raise FIMPError(f"--out: {out} exists; name a new folder")
    task = config.make_task(config.read())
    with threads(config.threads):
        fitted = fit(
            task,
            config.choice,
            config.train,
            out,
            planned_steps=config.planned_steps,
            stop_after=config.steps,
            pretraining_steps=config.pretraining_steps,
        )
        metrics = evaluate(task, config.choice, fitted.network, task.split["test"], config.train)
    if out is not None:
        config.save(out)
        write_json(out / "results.json", {"model": config.model, "seed": config.seed, "metrics": metrics})
    stored = json.loads((run / "results.json").read_text())["metrics"] if (run / "results.json").exists() else None
    for name, value in metrics.items():
        before = "" if stored is None else f"   stored {stored[name]!r}"
        typer.echo(f"{name:10} {value!r}{before}")
    if stored is not None:
        same = all(stored[name] == value for name, value in metrics.items())
        typer.echo("identical to the digit" if same else "different")
        if not same:
            raise typer.Exit(1)
