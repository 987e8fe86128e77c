"""The sections on the configuration, and on how to reproduce the results."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fimp.analysis.report.found import FoundRun
from fimp.analysis.report.page import Section, Table
from fimp.models.checkpoints import short_name

_TITLES = {"data": "How the data was read", "task": "The task", "train": "Training"}


def settings_section(run: FoundRun) -> Section:
    """Every setting of the run that is shown, and the hyperparameters of all models."""
    section, config = Section("configuration", "Configuration"), run.config
    groups = {"data": asdict(config.data), "task": asdict(config.options), "train": asdict(config.train)}
    for name, values in groups.items():
        rows = [[key.replace("_", " "), _text(value)] for key, value in values.items()]
        section.parts.append(Table(_TITLES[name], ["setting", "value"], rows))
    models = {config.model: asdict(config.hyperparameters)}
    if run.is_comparison and run.results is not None:
        models = run.results["settings"]["hyperparameters"]
    names = list(next(iter(models.values())))
    section.parts.append(
        Table(
            "Hyperparameters; “rule” is decided from the data",
            ["model", *(name.replace("_", " ") for name in names)],
            [
                [short_name(model), *("rule" if own[name] is None else _text(own[name]) for name in names)]
                for model, own in models.items()
            ],
            tuple(range(1, len(names) + 1)),
        )
    )
    return section


def reproduction_section(run: FoundRun, commands: list[tuple[str, str]]) -> Section:
    """Commands that lead to the same numbers, and the machine on which they were found."""
    section = Section("reproduce", "How to reproduce", commands=commands)
    if run.results is not None:
        machine = run.results["machine"]
        section.notes.append(
            f"Made with fimp {machine['fimp']}, torch {machine['torch']}, Python {machine['python']}, on "
            f"{machine['cores']} cores ({machine['device']}), {machine['jobs']} runs side by side, in "
            f"{run.results['seconds'] / 60:.1f} minutes."
        )
    else:
        section.notes.append(f"Made with fimp {run.config.version}.")
    if run.config.files is not None:
        section.notes.append(
            f"{short_name(run.config.model)} reads {run.config.files.path}, SHA-256 {run.config.files.sha256}."
        )
    return section


def _text(value: Any) -> str:
    if value is None or value == () or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value)
