"""Fair tuning: every model tries its own defaults, then the same points of one grid, and validation alone decides."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
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
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

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
#: Validations of a trial's first run after which only a third goes on: successive halving.
_RUNGS = (6, 18, 54)


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
        """Try the points that no earlier sitting finished, in their order: a resumed search ends like a whole one.

        Trials that are behind after some validations of their first run are ended; the defaults are not.

        Returns
        -------
        dict
            ``model``, ``score`` (mean monitored metric on validation nodes), ``hyperparameters`` of the best trial,
            and ``trials``: a list of ``params``, ``score`` and ``state``.

        Raises
        ------
        FIMPError
            If the defaults have no score on the validation part.
        """
        import optuna

        optuna.logging.set_verbosity(logging.ERROR)
        config = self.configs[0]
        task = config.make_task(config.read())
        sign = 1.0 if task.metrics[task.monitor] == "max" else -1.0
        study = optuna.create_study(
            storage=open_storage(self.folder),
            study_name=f"{config.task} {config.model}",
            direction="maximize" if sign > 0 else "minimize",
            sampler=optuna.samplers.RandomSampler(seed=config.seed),
            load_if_exists=True,
        )
        _drop_unfinished(study)
        tried: list[FrozenTrial] = []
        for number, point in enumerate(points(self.trials, config.seed, config.hyperparameters)):
            trial = _finished(study, point, may_be_pruned=number > 0)
            if trial is None:
                listener(number / self.trials, f"trial {number + 1} of {self.trials}")
                # One at a time, so that an end from outside leaves none that a later, shorter search would do.
                study.enqueue_trial(point)
                study.optimize(functools.partial(self._objective, tuple(tried), sign), n_trials=1)
                trial = study.get_trials(deepcopy=False)[-1]
            tried.append(trial)
        return self._report(tried, sign)

    def _objective(self, earlier: tuple[FrozenTrial, ...], sign: float, trial: optuna.Trial) -> float:
        import optuna

        own = points(1, self.configs[0].seed, self.configs[0].hyperparameters)[0]
        choices = {name: list(dict.fromkeys([*values, own[name]])) for name, values in GRID.items()}
        point: dict[str, Any] = {name: trial.suggest_categorical(name, values) for name, values in choices.items()}
        scores, validations = [], itertools.count(1)

        def report(score: float) -> None:
            validation = next(validations)
            trial.report(score, validation)
            others = [other.intermediate_values.get(validation) for other in earlier]
            # The defaults, which come first, are never ended: no search may end below them.
            if earlier and validation in _RUNGS and _behind(score, others, sign):
                raise optuna.TrialPruned

        for index, config in enumerate(self.configs):
            config = replace(config, hyperparameters=replace(config.hyperparameters, **point))
            with threads(config.threads):
                task = config.make_task(config.read())
                # Runs stop early at different times, so that reports are of the same data in the first run alone.
                listener = report if index == 0 else None
                fitted = fit(task, config.choice, config.train, on_validation=listener)
                score = evaluate(task, config.choice, fitted.network, task.split["val"], config.train)[task.monitor]
            if math.isnan(score):
                if earlier:
                    raise optuna.TrialPruned
                raise FIMPError(
                    f"{config.source}: {task.monitor} of {config.model} does not exist on the validation part of "
                    f"seed {config.seed}, perhaps as all values there are equal or of a single class; "
                    "use data or a split whose validation part varies"
                )
            scores.append(score)
        return statistics.fmean(scores)

    def _report(self, tried: list[FrozenTrial], sign: float) -> dict[str, Any]:
        # Trials that were ended early have a value, too: that of their last validation.
        scores = [sign * (trial.value or 0.0) if trial.state.name == "COMPLETE" else -math.inf for trial in tried]
        best = tried[scores.index(max(scores))]
        return {
            "model": self.configs[0].model,
            "score": best.value,
            "hyperparameters": {**asdict(self.configs[0].hyperparameters), **best.params},
            "trials": [{"params": t.params, "score": t.value, "state": t.state.name.lower()} for t in tried],
        }


def _drop_unfinished(study: optuna.Study) -> None:
    """Leave nothing of a sitting that was ended from outside: neither what it did nor what it had planned."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)):
        # Optuna is told of running trials only; asking starts one that waits.
        started = study.ask() if trial.state == TrialState.WAITING else trial.number
        study.tell(started, state=TrialState.FAIL)


def _finished(study: optuna.Study, point: Point, may_be_pruned: bool) -> FrozenTrial | None:
    """The trial of a point that needs no repetition, if there is one."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED) if may_be_pruned else (TrialState.COMPLETE,)
    return next((trial for trial in study.get_trials(deepcopy=False, states=states) if trial.params == point), None)


def _behind(score: float, others: list[float | None], sign: float) -> bool:
    """Whether a score is not among the best third; of fewer than six, whether it is not the best."""
    rivals = [other for other in others if other is not None]
    better = sum(sign * other > sign * score for other in rivals)
    return math.isnan(score) or better >= max(1, (len(rivals) + 1) // 3)


def open_storage(folder: Path) -> RDBStorage:
    """The database of a folder's trials; an empty one is made where there is none.

    Raises
    ------
    FIMPError
        If the file is something else.
    """
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STORAGE
    try:
        # Workers write to it in turn, and a busy disk may keep one waiting for long.
        return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    except (SQLAlchemyError, RuntimeError) as error:
        # A RuntimeError is what databases of other versions of optuna give.
        raise FIMPError(
            f"{path} is no database of `fimp tune` ({str(error).splitlines()[0]}); delete it, or choose another --out"
        ) from error


def prepare(folder: Path, config: RunConfig, sources: list[Any], seeds: int) -> None:
    """Make a folder ready for studies side by side, which may not make its database at the same time.

    Raises
    ------
    FIMPError
        If the folder's trials were made with other settings, which are not mixed; or if a file in it is damaged.
    """
    wanted = json.loads(json.dumps(_settings(config, sources, seeds)))
    path = folder / "settings.json"
    if path.exists():
        found = _read(path)
        changed = [key for key in wanted if found.get(key) != wanted[key]]
        if changed == ["digests"]:
            raise FIMPError(
                f"{folder}: its trials are of other data than {', '.join(map(str, sources))} hold now; put the data "
                "back, or choose another --out"
            )
        if changed:
            raise FIMPError(
                f"{folder}: its trials had {changed[0]}={found.get(changed[0])}, this search has "
                f"{wanted[changed[0]]}; repeat its options, or choose another --out"
            )
    _tuned_before(folder)
    open_storage(folder)
    write_json(path, wanted)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FIMPError(f"{path} is damaged ({error}); choose another --out") from error
    if not isinstance(content, dict):
        raise FIMPError(f"{path} is damaged (a {type(content).__name__}, no object); choose another --out")
    return content


def _tuned_before(folder: Path) -> dict[str, Any]:
    """Reports of the models in a folder's ``best.json``."""
    path = folder / BEST
    models = _read(path).get("models") if path.exists() else {}
    if not isinstance(models, dict):
        raise FIMPError(f'{path} is damaged (no object "models"); choose another --out')
    return models


def _settings(config: RunConfig, sources: list[Any], seeds: int) -> dict[str, Any]:
    return {
        "task": config.task,
        "sources": sources,
        "digests": [replace(config, source=source).digest() for source in sources],
        "seeds": seeds,
        "data": asdict(config.data),
        "options": asdict(config.options),
        "train": asdict(config.train),
    }


def write_best(
    folder: Path, config: RunConfig, sources: list[Any], seeds: int, reports: list[dict[str, Any]], seconds: float
) -> None:
    """Write ``best.json``: what was searched, on what, and what came out of it; models tuned before are kept."""
    content = {
        **_settings(config, sources, seeds),
        "grid": {name: list(values) for name, values in GRID.items()},
        "models": {**_tuned_before(folder), **{report["model"]: report for report in reports}},
        "seconds": round(seconds, 1),
    }
    write_json(folder / BEST, content)


def apply_tuned(choices: list[ModelChoice], folder: Path, task: str) -> list[ModelChoice]:
    """Choices with the hyperparameters that :func:`write_best` stored; a control takes those of its model.

    A model is the same if it has the same way to fill in, table of genes and options.

    Raises
    ------
    FIMPError
        If the folder holds no tuning of this task, or a model that can be trained was not tuned.
    """
    if folder.is_file():
        raise FIMPError(f"--tuned: {folder} is a file; pass its folder, {folder.parent}")
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
        name = _without_control(choice)
        best = models.get(choice.name, models.get(name))
        if best is None and choice.spec.trainable:
            raise FIMPError(
                f"--tuned: {name} was not tuned in {folder} (there are {', '.join(models) or 'none'}); "
                f"run `fimp tune {task} --models {name} --out {folder}`"
            )
        out.append(choice if best is None else replace(choice, hyperparameters=best))
    return out


def _without_control(choice: ModelChoice) -> str:
    """``fimp-base,genes=FILE`` of ``fimp-base:no-edges,genes=FILE``."""
    plain, comma, options = choice.name.partition(",")
    return choice.name if choice.control is None else plain.removesuffix(f":{choice.control}") + comma + options
