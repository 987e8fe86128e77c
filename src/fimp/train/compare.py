"""Train several models with several seeds on one task, and put the results in a folder."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

import fimp
from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Task
from fimp.train.checkpoint import save_tree
from fimp.train.fit import evaluate, fit
from fimp.train.pretrain import PRETRAINED
from fimp.train.runs import WEIGHTS, RunConfig, write_json


class Observer(Protocol):
    """Told of a comparison's progress."""

    def begin(self, title: str, index: int, total: int) -> None:
        """A run begins."""
        ...

    def advance(self, share: float, text: str) -> None:
        """A run has come so far."""
        ...

    def end(self, result: dict[str, Any], *, reused: bool) -> None:
        """A run is finished, now or in an earlier sitting."""
        ...


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where the results go.

    Attributes
    ----------
    make_task
        Builds the task for a seed.
    config
        Configuration shared by all runs; model, hyperparameters and seed are filled in per run.
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
    """

    make_task: Callable[[int], Task]
    config: RunConfig
    choices: list[ModelChoice]
    seeds: int
    out: Path
    deadline: float | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise FIMPError(f"--seeds: {self.seeds} is below 1; use 3, for instance")
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
            If ``resume`` meets runs of other settings.
        """
        started = time.monotonic()
        plan = [(seed, choice) for seed in range(self.seeds) for choice in self.choices]
        if not self.resume:
            self._remove_earlier()
        runs: list[dict[str, Any]] = []
        for index, (seed, choice) in enumerate(plan):
            first_seed = seed == 0
            if not first_seed and self.deadline is not None and time.monotonic() >= self.deadline:
                continue
            observer.begin(f"{choice.name}, seed {seed}", index, len(plan))
            left = [later for _, later in plan[index:] if later.spec.trainable]
            result, reused = self._one(seed, choice, self._share(len(left)), observer)
            runs.append(result)
            observer.end(result, reused=reused)
        results = self._results(runs, time.monotonic() - started)
        write_json(self.out / "results.json", results)
        return results

    def _share(self, runs_left: int) -> float | None:
        """Seconds that the next run may take: an equal share of what is left."""
        if self.deadline is None:
            return None
        # A twentieth is kept for what is written at the end.
        left = (self.deadline - time.monotonic()) * 0.95
        return max(0.0, left) / max(1, runs_left)

    def folder(self, choice: ModelChoice, seed: int) -> Path:
        """Run folder of a model and seed; a control's colon becomes a dash."""
        return self.out / "runs" / choice.name.replace(":", "-") / f"seed{seed}"

    def _remove_earlier(self) -> None:
        """Remove an earlier comparison, and nothing that is not recognised as one."""
        for config in self.out.glob("runs/*/seed*/config.yaml"):
            shutil.rmtree(config.parent)
        for folder in (*self.out.glob("runs/*/"), self.out / "runs"):
            with suppress(OSError):  # missing, or holds something of the user's
                folder.rmdir()
        for ending in ("json", "md", "png"):
            (self.out / f"results.{ending}").unlink(missing_ok=True)

    def _one(
        self, seed: int, choice: ModelChoice, budget: float | None, observer: Observer
    ) -> tuple[dict[str, Any], bool]:
        folder = self.folder(choice, seed)
        config = replace(self.config, model=choice.name, hyperparameters=choice.hyperparameters, seed=seed)
        finished = folder / "results.json"
        if (folder / "config.yaml").exists():
            _check_same(RunConfig.load(folder), config, folder)
            if finished.exists():
                return json.loads(finished.read_text()), True
        config.save(folder)
        task = self.make_task(seed)
        begun = time.monotonic()
        # What the final evaluation will take is known only from doing it once; a share of a budget is kept.
        training = None if budget is None else 0.9 * budget
        fitted = fit(
            task,
            choice,
            config.train,
            folder,
            budget_seconds=training,
            resume=True,
            listener=observer.advance,
        )
        observer.advance(1.0, "test")
        result = {
            "model": choice.name,
            "seed": seed,
            "metrics": evaluate(task, choice, fitted.network, task.split["test"], config.train),
            "epochs": fitted.epochs,
            "steps": fitted.steps,
            "train_seconds": round(fitted.train_seconds, 3),
            "seconds": round(time.monotonic() - begun, 3),
            "peak_memory_mb": round(fitted.peak_memory_mb, 1),
        }
        save_tree({"state_dict": fitted.network.state_dict(), "epochs": fitted.epochs}, folder / WEIGHTS)
        if budget is not None:
            replace(config, **fitted.shortened).save(folder)
        write_json(finished, result)
        for name in ("last.safetensors", PRETRAINED):
            (folder / "checkpoints" / name).unlink(missing_ok=True)
        return result, False

    def _results(self, runs: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        task = self.make_task(0)
        data = task.data
        return {
            "task": task.name,
            "data": {
                "name": data.name,
                "n_nodes": int(data.num_nodes),
                "n_edges": int(data.edge_index.size(1)),
                "n_features": int(data.x.size(1)),
                "notes": list(data.notes),
            },
            "metrics": task.metrics,
            "runs": runs,
            "summary": [summarise(choice.name, runs) for choice in self.choices],
            "settings": {
                "data": asdict(self.config.data),
                "task": asdict(self.config.options),
                "train": asdict(self.config.train),
                "seeds": self.seeds,
            },
            "machine": {
                "fimp": fimp.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "device": self.config.train.accelerator,
            },
            "seconds": round(seconds, 1),
        }


def summarise(model: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every metric of a model (deviation 0 for one seed)."""
    own = [run for run in runs if run["model"] == model]
    metrics = {}
    for name in own[0]["metrics"]:
        values = [float("nan") if run["metrics"][name] is None else run["metrics"][name] for run in own]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        metrics[name] = {"mean": statistics.fmean(values), "std": spread}
    seconds = statistics.fmean(run["train_seconds"] for run in own)
    return {"model": model, "n_seeds": len(own), "metrics": metrics, "train_seconds": round(seconds, 3)}


def _check_same(found: RunConfig, wanted: RunConfig, folder: Path) -> None:
    ignored = {"planned_steps", "steps", "pretraining_steps", "version"}
    for name, value in asdict(wanted).items():
        other = asdict(found)[name]
        if name in ignored or other == value:
            continue
        if isinstance(value, dict):
            name, other, value = next((f"{name}.{k}", other[k], v) for k, v in value.items() if other[k] != v)
        raise FIMPError(
            f"{folder}: an earlier run had {name}={other!r}, this one has {value!r}; "
            "repeat its options with --resume, or choose another --out"
        )
