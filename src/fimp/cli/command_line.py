"""The command that a run's settings stand for."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fimp.cli.setups import SETUPS
from fimp.train.options import TrainOptions
from fimp.train.runs import RunConfig

#: Training options that ``fimp compare`` has flags for.
_TRAINING = ("epochs", "batch_size", "device", "precision")


def compare_command(config: RunConfig, models: list[str], seeds: int, out: Path) -> str | None:
    """The ``fimp compare`` that has these settings; None where flags cannot say them.

    Parameters
    ----------
    config
        Of any run of the comparison.
    models, seeds
        All models, by name, and the number of seeds.
    out
        Folder for the results.
    """
    if config.source is None:
        return None
    setup = SETUPS[config.task]
    known = {**asdict(config.data), **asdict(config.options)}
    sources = [config.source] if isinstance(config.source, str) else list(config.source)
    flags, chosen = [part for one in sources for part in ("--data", str(one))], {}
    for name, parameter in inspect.signature(setup).parameters.items():
        if name == "data":
            chosen[name] = sources if config.task in ("expression", "celltype") else sources[0]
        elif name in known and (known[name] or None) != (parameter.default or None):
            chosen[name] = list(known[name]) if isinstance(known[name], (list, tuple)) else known[name]
            flags += _flag(setup, name, known[name])
    meant = setup(**chosen)
    rest = {one.name: one.default for one in fields(TrainOptions) if one.name not in _TRAINING}
    plain = all(value is MISSING or getattr(config.train, name) == value for name, value in rest.items())
    if (meant.data, meant.options) != (config.data, config.options) or not plain:
        return None
    flags += ["--models", ",".join(models), "--seeds", str(seeds)]
    for one in fields(TrainOptions):
        value = getattr(config.train, one.name)
        if one.name in _TRAINING and value != one.default:
            flags += [f"--{one.name.replace('_', '-')}", str(value)]
    return shlex.join(["fimp", "compare", config.task, *flags, "--out", str(out)])


def _flag(setup: Any, name: str, value: Any) -> list[str]:
    """A flag and its value, as typer reads them."""
    hint = get_type_hints(setup, include_extras=True)[name]
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{name.replace('_', '-')}"]
    if isinstance(value, (list, tuple)):
        kinds = str(get_args(hint)[0])
        if "tuple" in kinds:
            return [flag, *map(str, value)]
        return [part for one in value for part in (flag, str(one))]
    return [flag, str(value)]
