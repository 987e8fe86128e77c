"""Train several models with several seeds on one task, and put the results in a folder."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import fimp
from fimp.errors import FIMPError
from fimp.models.checkpoints import short_name
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Task
from fimp.train.runs import RunConfig, write_json
from fimp.train.single import (
    Run,
    available_cores,
    example,
    finished,
    node_statistics,
    side_by_side,
    tested_units,
)
from fimp.train.statistics import best_baseline, bootstrap, compare_to, interval
from fimp.train.workers import Job, run_all

#: What a comparison writes, besides its runs.
RESULTS = ("results.json", "results.md", "results.png")
#: Figure of examples, within a comparison's folder.
RECONSTRUCTIONS = "reconstructions.png"
#: What ``fimp report`` writes into it.
REPORT = "report.html"


class Observer(Protocol):
    """Told of a comparison's progress."""

    def begin(self, run: Job) -> None:
        """A run begins."""
        ...

    def advance(self, run: Job, share: float, text: str) -> None:
        """A run has come so far."""
        ...

    def end(self, run: Job, result: dict[str, Any], *, reused: bool) -> None:
        """A run is finished, now or in an earlier sitting."""
        ...


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where the results go.

    Attributes
    ----------
    config
        Configuration shared by all runs; model, hyperparameters, seed and threads are filled in per run.
    choices
        The models.
    seeds
        Number of seeds; 0, 1, ... are used.
    out
        Folder for results.
    deadline
        ``time.monotonic()`` at which the whole comparison should be over, or None.
    resume
        Reuse finished runs of an earlier sitting, and go on with unfinished ones.
    jobs
        Runs side by side; None takes as many as there are cores (one on a GPU). The cores are shared out among
        them.

    Raises
    ------
    FIMPError
        If there is no seed or no job, or ``out`` is a file.
    """

    config: RunConfig
    choices: list[ModelChoice]
    seeds: int
    out: Path
    deadline: float | None = None
    resume: bool = False
    jobs: int | None = None

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise FIMPError(f"--seeds: {self.seeds} is below 1; use 3, for instance")
        self._side_by_side()
        if self.out.exists() and not self.out.is_dir():
            raise FIMPError(f"--out: {self.out} is a file; name a folder")

    def run(self, observer: Observer) -> dict[str, Any]:
        """Do all runs, and write ``results.json``.

        Seeds come first: when time runs out, all models have been trained with the first seeds.

        Returns
        -------
        dict
            The content of ``results.json``.

        Raises
        ------
        FIMPError
            If ``resume`` meets runs of other settings, or the folder holds files of the names that a comparison writes
            and is none.
        """
        started = time.monotonic()
        self._check_out()
        if not self.resume:
            self._remove_earlier()
        results: dict[int, dict[str, Any]] = {}
        waiting = []
        for index, config in enumerate(self.plan()):
            config, earlier = self._earlier(config)
            if earlier is not None:
                done = Run(index, config, self.folder(config))
                observer.begin(done)
                observer.end(done, earlier, reused=True)
                results[index] = earlier
            else:
                waiting.append((index, config))
        count = min(self._side_by_side()[0], max(1, len(waiting)))
        for run, result in run_all(self._runs(waiting, count), count, observer.begin, observer.advance):
            observer.end(run, result, reused=False)
            results[run.index] = result
        report = self._results([results[index] for index in sorted(results)], time.monotonic() - started)
        write_json(self.out / RESULTS[0], report)
        return report

    def plan(self) -> list[RunConfig]:
        """Configurations of all runs, in order."""
        _, threads = self._side_by_side()
        return [
            self.config.of(choice, seed=seed, threads=threads) for seed in range(self.seeds) for choice in self.choices
        ]

    def examples(self) -> dict[str, dict[str, Tensor]]:
        """What a figure shows of every model that was run with the first seed, where the task has such a figure."""
        found = {config.model: example(self.folder(config)) for config in self.plan() if config.seed == 0}
        return {model: one for model, one in found.items() if one is not None}

    def folder(self, config: RunConfig) -> Path:
        """Run folder of a model and seed; a control's colon becomes a dash.

        A model that names a file gets a short name with a mark, since two files may be called alike.
        """
        name = config.model.replace(":", "-")
        if config.choice.reads_files:
            mark = hashlib.sha256(config.model.encode()).hexdigest()[:8]
            name = f"{re.sub(r'[^A-Za-z0-9._=+-]+', '-', short_name(config.model))[:80]}-{mark}"
        return self.out / "runs" / name / f"seed{config.seed}"

    def _side_by_side(self) -> tuple[int, int]:
        """Runs side by side, and threads of each."""
        runs = self.seeds * sum(choice.spec.trainable for choice in self.choices)
        return side_by_side(self.jobs, runs, self.config.train.accelerator)

    def _runs(self, waiting: list[tuple[int, RunConfig]], count: int) -> Iterator[Run]:
        """Runs with an equal share of the time left at the moment when each is taken.

        When there is no time left, only the runs of the first seed are still done (they train nothing).
        """
        for place, (index, config) in enumerate(waiting):
            if self.deadline is None:
                yield Run(index, config, self.folder(config))
                continue
            # A twentieth is kept for what is written at the end.
            seconds = max(0.0, (self.deadline - time.monotonic()) * 0.95)
            left = sum(later.choice.spec.trainable for _, later in waiting[place:])
            if seconds > 0.0 or config.seed == 0:
                yield Run(index, config, self.folder(config), seconds / max(1, -(-left // count)))

    def _check_out(self) -> None:
        """Refuse to replace what no comparison wrote."""
        if (self.out / "runs").exists() and not (self.out / "runs").is_dir():
            raise FIMPError(f"--out: {self.out / 'runs'} is a file, and runs would go there; choose another folder")
        found = [name for name in (*RESULTS, RECONSTRUCTIONS, REPORT) if (self.out / name).exists()]
        if found and not any(self.out.glob("runs/*/seed*/config.yaml")) and not _is_comparison(self.out / RESULTS[0]):
            raise FIMPError(f"--out: {self.out} holds {found[0]}, which no comparison wrote; choose another folder")

    def _remove_earlier(self) -> None:
        """Remove an earlier comparison."""
        for config in self.out.glob("runs/*/seed*/config.yaml"):
            shutil.rmtree(config.parent)
        for folder in (*self.out.glob("runs/*/"), self.out / "runs"):
            with suppress(OSError):  # missing, or holds something of the user's
                folder.rmdir()
        for name in (*RESULTS, RECONSTRUCTIONS, REPORT):
            (self.out / name).unlink(missing_ok=True)

    def _earlier(self, config: RunConfig) -> tuple[RunConfig, dict[str, Any] | None]:
        """A run's configuration, and its result if an earlier sitting finished it."""
        folder = self.folder(config)
        config = replace(config, data_digest=config.digest())
        if not (folder / "config.yaml").exists():
            return config, None
        stored = RunConfig.load(folder)
        _check_same(stored, config, folder)
        # Other threads would round otherwise than the epochs that are done.
        return replace(config, threads=stored.threads), finished(folder)

    def _results(self, runs: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        task = self.config.make_task(self.config.read())
        data = task.data
        summary = [summarise(choice.name, runs) for choice in self.choices]
        resamples = self._resamples(task, runs)
        for row in summary:
            own = [draws for (model, _), draws in resamples.items() if model == row["model"]]
            row["interval"] = interval(np.mean(own, axis=0))
        baselines = [c.name for c in self.choices if c.spec.baseline and c.control is None]
        baseline = best_baseline(runs, baselines, task.monitor, task.metrics[task.monitor])
        test_share = len(task.split["test"]) / max(1, len(task.split["train"]))
        return {
            "task": task.name,
            "data": {
                "name": data.name,
                "n_nodes": int(data.num_nodes),
                "n_edges": int(data.edge_index.size(1)),
                "n_features": task.num_features,
                **{f"n_{part}": len(nodes) for part, nodes in task.split.items()},
                "notes": list(data.notes),
            },
            "metrics": task.metrics,
            "monitor": task.monitor,
            "runs": runs,
            "summary": summary,
            "comparisons": []
            if baseline is None
            else compare_to(baseline, runs, task.metrics, task.monitor, resamples, test_share),
            "settings": {
                "data": asdict(self.config.data),
                "task": asdict(self.config.options),
                "train": asdict(self.config.train),
                "hyperparameters": {choice.name: asdict(choice.hyperparameters) for choice in self.choices},
                "seeds": self.seeds,
                "changed": self._changed(),
            },
            "machine": {
                "fimp": fimp.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "cores": available_cores(),
                "jobs": self._side_by_side()[0],
                "device": self.config.train.accelerator,
            },
            "seconds": round(seconds, 1),
        }

    def _changed(self) -> list[str]:
        """Settings that are not the defaults, as ``name=value``; those of a model alone behind its name."""
        config = self.config
        found = [one for part in (config.data, config.options, config.train) for one in _differing(part)]
        for choice in self.choices:
            own = _differing(choice.hyperparameters, choice.spec.defaults)
            found += [f"{choice.name}: {', '.join(own)}"] if own else []
        return found

    def _resamples(self, task: Task, runs: list[dict[str, Any]]) -> dict[tuple[str, int], NDArray[np.float64]]:
        """The monitored metric of every run on the same resamples of all nodes that any seed tests."""
        folders = {
            seed: {
                run["model"]: self.folder(replace(self.config, seed=seed, model=run["model"]))
                for run in runs
                if run["seed"] == seed
            }
            for seed in sorted({run["seed"] for run in runs})
        }
        # Models of a seed are tested on the same nodes.
        units = {seed: tested_units(next(iter(of.values()))) for seed, of in folders.items()}
        everything = np.unique(np.concatenate(list(units.values())))
        out = {}
        for seed, of in folders.items():
            kept = {model: node_statistics(folder) for model, folder in of.items()}
            for model, draws in bootstrap(task, kept, units[seed], everything).items():
                out[model, seed] = draws
        return out


def _differing(now: Any, usual: Any = None) -> list[str]:
    """Fields of a dataclass that differ from those of another, or from their defaults where they have one."""
    out = []
    for own in fields(now):
        if usual is not None:
            default = getattr(usual, own.name)
        else:
            default = own.default if own.default_factory is MISSING else own.default_factory()
        value = getattr(now, own.name)
        if default is not MISSING and value != default:
            out.append(f"{own.name}={value}")
    return out


def _is_comparison(path: Path) -> bool:
    """Whether a file is the ``results.json`` of a comparison."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"runs", "summary", "machine"} <= set(found)


def summarise(model: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every metric of a model (deviation 0 for one seed)."""
    own = [run for run in runs if run["model"] == model]
    metrics = {}
    for name in own[0]["metrics"]:
        values = [float("nan") if run["metrics"][name] is None else run["metrics"][name] for run in own]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        metrics[name] = {"mean": statistics.fmean(values), "std": spread}
    seconds = statistics.fmean(run["train_seconds"] for run in own)
    return {"model": model, "n_seeds": len(own), "metrics": metrics, "train_seconds": round(seconds, 3)}


def _check_same(found: RunConfig, wanted: RunConfig, folder: Path) -> None:
    ignored = {"planned_steps", "steps", "pretraining_steps", "threads", "version"}
    for name, value in asdict(wanted).items():
        other = asdict(found)[name]
        if name in ignored or other == value:
            continue
        if name == "data_digest":
            raise FIMPError(
                f"{wanted.data_name}: changed since {folder} was trained; put back what it was trained on, or choose "
                "another --out"
            )
        if isinstance(value, dict) and isinstance(other, dict):
            name, other, value = next((f"{name}.{k}", other[k], v) for k, v in value.items() if other[k] != v)
        raise FIMPError(
            f"{folder}: an earlier run had {name}={other!r}, this one has {value!r}; "
            "repeat its options with --resume, or choose another --out"
        )
