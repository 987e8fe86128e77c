"""How a task's flags and a command's flags become one command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Setup:
    """A task on a source of data, as flags describe it.

    Attributes
    ----------
    task
        Name of the task.
    source
        Path or name of the data; several paths as a list.
    data, options
        How the data is read, and the task's settings.
    models
        What is compared where nobody says otherwise.
    """

    task: str
    source: str | list[str]
    data: Any
    options: Any
    models: str = "mean,mlp,gcn,fimp-base"


def with_setup(setup: Callable[..., Setup], action: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the flags of both, and calls ``action(setup(...), ...)``.

    Parameters
    ----------
    setup
        Makes a :class:`Setup` from its flags; its docstring becomes the command's help.
    action
        Takes the :class:`Setup` first, then flags of its own.
    """
    own = _flags(setup)
    more = _flags(action)[1:]

    def command(**flags: Any) -> None:
        chosen = {parameter.name: flags.pop(parameter.name) for parameter in own}
        action(setup(**chosen), **flags)

    command.__doc__ = setup.__doc__
    command.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *more)}
    return command


def _flags(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Parameters with their annotations evaluated, all by keyword: order does not matter on a command line."""
    hints = get_type_hints(function, include_extras=True)
    return [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(function).parameters.values()
    ]
