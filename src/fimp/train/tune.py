"""Fair tuning: every model tries its own defaults, then the same points of one grid, and validation alone decides."""

from __future__ import annotations

import itertools
import json
import logging
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fimp.errors import FIMPError
from fimp.models.registry import Hyperparameters, ModelChoice
from fimp.train.evaluation import evaluate
from fimp.train.fit import fit
from fimp.train.runs import RunConfig, write_json
from fimp.train.single import threads

if TYPE_CHECKING:
    import optuna

#: The grid: what the paper searches (section 4), at standard values.
GRID: dict[str, tuple[float | None, ...]] = {
    "lr": (3e-4, 1e-3, 3e-3),
    "dropout": (0.0, 0.1, 0.3, 0.5),
    "attention_dropout": (0.0, 0.1, 0.3),
    "weight_decay": (1e-4, 1e-2, 5e-2),
}
#: What ``fimp tune`` writes and ``fimp compare --tuned`` reads.
BEST = "best.json"
STORAGE = "tune.db"


#: Values of the hyperparameters in :data:`GRID`.
Point = dict[str, float | None]


def points(trials: int, seed: int, defaults: Hyperparameters) -> list[Point]:
    """What a model tries: its own defaults, so that no search ends below them, then points of the shuffled grid.

    Parameters
    ----------
    trials
        How many; the points of the grid are the same for every model.
    seed
        Seed of their order.
    defaults
        The model's own.

    Raises
    ------
    FIMPError
        If the grid has fewer points, or none is asked for.
    """
    grid: list[Point] = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    if not 1 <= trials <= len(grid):
        raise FIMPError(f"--trials: {trials} is outside 1 to {len(grid)}, the size of the grid; use 12, for instance")
    order = np.random.default_rng([seed, 23]).permutation(len(grid))
    own: Point = {name: getattr(defaults, name) for name in GRID}
    return [own, *(grid[index] for index in order if grid[index] != own)][:trials]


def tried_grid(reports: list[dict[str, Any]]) -> dict[str, tuple[float | None, ...]]:
    """Values of the grid, and those of defaults beside it that were tried; what is left to a rule comes first."""
    trials = [trial["params"] for report in reports for trial in report["trials"]]
    found = {name: {*values, *(params[name] for params in trials)} for name, values in GRID.items()}
    return {
        name: tuple(sorted(values, key=lambda value: -1.0 if value is None else value))
        for name, values in found.items()
    }


@dataclass(frozen=True)
class Study:
    """The search of one model; a :class:`fimp.train.workers.Job`.

    Attributes
    ----------
    index
        Number of the study within its tuning.
    configs
        The runs that a trial is scored by, one per data source and seed; the trial fills in hyperparameters.
    trials
        Points of the grid to try.
    folder
        Where the storage is.
    """

    index: int
    configs: tuple[RunConfig, ...]
    trials: int
    folder: Path

    @property
    def title(self) -> str:
        """The model."""
        return self.configs[0].model

    def run(self, listener: Callable[[float, str], None]) -> dict[str, Any]:
        """Try the points that no earlier sitting finished.

        Returns
        -------
        dict
            ``model``, ``score`` (mean monitored metric on validation nodes), ``hyperparameters`` of the best trial,
            and ``trials``: a list of ``params``, ``score`` and ``state``.
        """
        import optuna

        optuna.logging.set_verbosity(logging.ERROR)
        study = self._study(optuna)
        tried = []
        for trial in study.trials:
            # Left by a sitting that was ended from outside.
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            elif trial.state != optuna.trial.TrialState.FAIL:
                tried.append(trial.system_attrs["fixed_params"])
        for point in self._points():
            # Optuna's own check would skip points whose trial did not finish.
            if point not in tried:
                study.enqueue_trial(point)
        while True:
            waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
            if not waiting:
                return self._report(study)
            listener(1.0 - len(waiting) / self.trials, f"trial {self.trials - len(waiting) + 1} of {self.trials}")
            study.optimize(self._objective, n_trials=1)

    def _points(self) -> list[Point]:
        return points(self.trials, self.configs[0].seed, self.configs[0].hyperparameters)

    def _study(self, optuna: Any) -> optuna.Study:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.configs[0]
        direction = config.make_task(config.read())
        mode = direction.metrics[direction.monitor]
        out: optuna.Study = optuna.create_study(
            storage=f"sqlite:///{self.folder / STORAGE}",
            study_name=f"{config.task} {config.model}",
            direction="maximize" if mode == "max" else "minimize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=6, reduction_factor=3),
            sampler=optuna.samplers.RandomSampler(seed=config.seed),
            load_if_exists=True,
        )
        return out

    def _objective(self, trial: optuna.Trial) -> float:
        import optuna

        own = self._points()[0]
        choices = {name: list(dict.fromkeys([*values, own[name]])) for name, values in GRID.items()}
        point: dict[str, Any] = {name: trial.suggest_categorical(name, values) for name, values in choices.items()}
        scores, reports = [], itertools.count(1)

        def report(score: float) -> None:
            # Trials are compared at the same report, which is of the same data and as many validations.
            trial.report(score, next(reports))
            if trial.should_prune():
                raise optuna.TrialPruned

        for config in self.configs:
            config = replace(config, hyperparameters=replace(config.hyperparameters, **point))
            with threads(config.threads):
                task = config.make_task(config.read())
                fitted = fit(task, config.choice, config.train, on_validation=report)
                score = evaluate(task, config.choice, fitted.network, task.split["val"], config.train)
            scores.append(score[task.monitor])
        return statistics.fmean(scores)

    def _report(self, study: optuna.Study) -> dict[str, Any]:
        finished = [trial for trial in study.trials if trial.state.is_finished() and trial.state.name != "FAIL"]
        best = study.best_trial
        return {
            "model": self.configs[0].model,
            "score": best.value,
            "hyperparameters": {**asdict(self.configs[0].hyperparameters), **best.params},
            "trials": [{"params": t.params, "score": t.value, "state": t.state.name.lower()} for t in finished],
        }


def check_settings(folder: Path, config: RunConfig, sources: list[Any], seeds: int) -> None:
    """Refuse to mix trials of different settings in one folder; a new folder keeps the settings.

    Raises
    ------
    FIMPError
        If the folder's trials were made with other settings.
    """
    wanted = json.loads(json.dumps(_settings(config, sources, seeds)))
    path = folder / "settings.json"
    if path.exists():
        found = json.loads(path.read_text())
        changed = [key for key in wanted if found.get(key) != wanted[key]]
        if changed:
            raise FIMPError(
                f"{folder}: its trials had {changed[0]}={found.get(changed[0])}, this search has "
                f"{wanted[changed[0]]}; repeat its options, or choose another --out"
            )
    write_json(path, wanted)


def _settings(config: RunConfig, sources: list[Any], seeds: int) -> dict[str, Any]:
    return {
        "task": config.task,
        "sources": sources,
        "seeds": seeds,
        "data": asdict(config.data),
        "options": asdict(config.options),
        "train": asdict(config.train),
    }


def write_best(
    folder: Path, config: RunConfig, sources: list[Any], seeds: int, reports: list[dict[str, Any]], seconds: float
) -> None:
    """Write ``best.json``: what was searched, on what, and what came out of it; models tuned before are kept."""
    path = folder / BEST
    earlier = json.loads(path.read_text())["models"] if path.exists() else {}
    content = {
        **_settings(config, sources, seeds),
        "grid": {name: list(values) for name, values in GRID.items()},
        "models": {**earlier, **{report["model"]: report for report in reports}},
        "seconds": round(seconds, 1),
    }
    write_json(path, content)


def apply_tuned(choices: list[ModelChoice], folder: Path, task: str) -> list[ModelChoice]:
    """Choices with the hyperparameters that :func:`write_best` stored; a control takes its model's.

    Raises
    ------
    FIMPError
        If the folder holds no tuning of this task, or a model that can be trained was not tuned.
    """
    path = folder / BEST
    try:
        stored = json.loads(path.read_text())
        models = {name: Hyperparameters(**entry["hyperparameters"]) for name, entry in stored["models"].items()}
        tuned_task = stored["task"]
    except FileNotFoundError as error:
        raise FIMPError(f"--tuned: {folder} has no {BEST}; pass the --out folder of a finished `fimp tune`") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FIMPError(f"--tuned: {path} is damaged ({error}); run `fimp tune` again") from error
    if tuned_task != task:
        raise FIMPError(f"--tuned: {folder} was tuned for {tuned_task}, not for {task}; run `fimp tune {task}`")
    out = []
    for choice in choices:
        best = models.get(choice.name, models.get(choice.spec.name))
        if best is None and choice.spec.trainable:
            raise FIMPError(
                f"--tuned: {choice.spec.name} was not tuned in {folder} (there are {', '.join(models)}); "
                f"run `fimp tune {task} --models {choice.spec.name} --out {folder}`"
            )
        out.append(choice if best is None else replace(choice, hyperparameters=best))
    return out
