"""What a report is about: a comparison, or one run of it, or a model that was saved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fimp.errors import FIMPError
from fimp.train.runs import RunConfig


@dataclass(frozen=True)
class FoundRun:
    """A folder that a report is written for.

    Attributes
    ----------
    folder
        Where the report goes.
    shown
        The run folder whose model the pictures are of: the folder itself, or one of a comparison's.
    config
        What determined that run.
    comparison
        Folder of the comparison that the run belongs to; None where there is none.
    results
        Content of its ``results.json``.
    """

    folder: Path
    shown: Path
    config: RunConfig
    comparison: Path | None = None
    results: dict[str, Any] | None = None

    @property
    def is_comparison(self) -> bool:
        """Whether the report is about all runs of a comparison."""
        return self.folder == self.comparison

    def of_model(self, model: str) -> list[Path]:
        """Run folders of a model in the comparison, by seed."""
        if self.comparison is None:
            return [self.shown] if model == self.config.model else []
        return [folder for name, _, folder in _runs(self.comparison) if name == model]


def find_run(path: Path) -> FoundRun:
    """Find out what a folder is.

    Parameters
    ----------
    path
        What ``fimp compare --out`` named, ``DIR/runs/MODEL/seedK`` in it, or what ``model.save`` wrote.

    Raises
    ------
    FIMPError
        If it is neither, or its files cannot be read.
    """
    folder = path.resolve()
    if (folder / "config.yaml").exists():
        config = RunConfig.load(folder)
        above = folder.parents[2] if len(folder.parents) > 2 else folder
        if folder.parent.parent.name == "runs" and (above / "results.json").exists():
            return FoundRun(folder, folder, config, above, _read(above / "results.json"))
        return FoundRun(folder, folder, config)
    if not (folder / "results.json").exists():
        raise FIMPError(
            f"{path}: no run folder (neither results.json nor config.yaml); pass what fimp compare --out named, or "
            "DIR/runs/MODEL/seedK"
        )
    results = _read(folder / "results.json")
    model = shown_model(results)
    runs = [run for name, _, run in _runs(folder) if name == model]
    if not runs:
        raise FIMPError(f"{path}: no run of {model} in {path / 'runs'}; put the runs back, or compare again")
    return FoundRun(folder, runs[0], RunConfig.load(runs[0]), folder, results)


def shown_model(results: dict[str, Any]) -> str:
    """The model that pictures are of: the best one that is no baseline, or the best of all."""
    metric = results["monitor"]
    sign = 1.0 if results["metrics"][metric] == "max" else -1.0
    # Rows with a control are there to be compared with, too.
    own = [row for row in results["summary"] if row["model"].startswith("fimp") and not _controlled(row["model"])]
    scored = [
        (sign * mean, row["model"])
        for row in own or results["summary"]
        if (mean := row["metrics"][metric]["mean"]) is not None and mean == mean
    ]
    name: str = max(scored)[1] if scored else results["summary"][-1]["model"]
    return name


def _controlled(model: str) -> bool:
    return ":no-edges" in model or ":shuffled-edges" in model


def _runs(comparison: Path) -> list[tuple[str, int, Path]]:
    """Model, seed and folder of every run."""
    out = []
    for path in comparison.glob("runs/*/seed*/config.yaml"):
        config = RunConfig.load(path.parent)
        out.append((config.model, config.seed, path.parent))
    return sorted(out, key=lambda run: run[:2])


def _read(path: Path) -> dict[str, Any]:
    """``results.json`` of a comparison."""
    try:
        found = json.loads(path.read_text())
        if {"summary", "runs", "comparisons", "monitor", "metrics", "data"} <= set(found) and found["summary"]:
            return dict(found)
    except (OSError, ValueError, TypeError) as error:
        raise FIMPError(f"{path}: cannot be read ({error}); compare again") from error
    raise FIMPError(f"{path}: no results of a comparison; pass what fimp compare --out named")
