"""Folders of new models: written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from fimp.errors import FIMPError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when everything is in it, and is gone when anything failed.

    Raises
    ------
    FIMPError
        If the folder exists or cannot be written.
    """
    if folder.exists():
        raise FIMPError(f"{folder}: exists; name a new folder or remove it")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, folder)
    except OSError as error:
        raise FIMPError(f"{folder}: cannot be written ({error.strerror}); name another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file for people to read, too."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def finite(weights: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The weights, if they can be used.

    Raises
    ------
    FIMPError
        If any is NaN or infinite.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise FIMPError(f"{folder}: not written, since weights are NaN or infinite; train with a smaller learning rate")
    return weights
