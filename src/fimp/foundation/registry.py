"""Which families of checkpoints there are, and how a folder is recognised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fimp.errors import FIMPError
from fimp.foundation.base import FoundationModel
from fimp.foundation.hf import model_type


@dataclass(frozen=True)
class Family:
    """A family of checkpoints.

    Attributes
    ----------
    name
        Its name, as ``kind=`` takes it.
    recognises
        Whether a folder looks like one of the family.
    load
        Reads a folder.
    description
        One line for ``fimp models list``.
    """

    name: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path], FoundationModel]
    description: str


FAMILIES: dict[str, Family] = {}


def register(family: Family) -> None:
    """Make a family known to :func:`load`.

    Parameters
    ----------
    family
        The family; it replaces one of the same name.
    """
    FAMILIES[family.name] = family


def load(path: str | Path, kind: str | None = None) -> FoundationModel:
    """Load a foundation model from a folder in its published layout.

    Nothing is unpickled freely: weights are read as safetensors or with ``weights_only=True``.

    Parameters
    ----------
    path
        The folder: ``args.json``, ``vocab.json`` and ``best_model.pt`` of scGPT, or ``config.json`` and weights as
        the transformers library writes them.
    kind
        Name of its family; found out by default.

    Returns
    -------
    FoundationModel
        In evaluation mode, on the CPU, in float32.

    Raises
    ------
    FIMPError
        If there is no such folder, no family recognises it, or its files are damaged or do not fit together.
    """
    folder = Path(path).expanduser()
    known = ", ".join(FAMILIES)
    if kind is not None and kind not in FAMILIES:
        raise FIMPError(f"kind={kind!r} is unknown; use one of {known}")
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise FIMPError(f"{folder}: {found}, wanted the folder of a checkpoint; give the folder that holds its files")
    family = FAMILIES[kind] if kind is not None else _recognise(folder)
    return family.load(folder).eval()


def _recognise(folder: Path) -> Family:
    for family in FAMILIES.values():
        if family.recognises(folder):
            return family
    found = model_type(folder)
    what = "no files of a checkpoint" if found is None else f"a config.json with model_type {found!r}"
    raise FIMPError(
        f"{folder}: holds {what} that fimp knows ({', '.join(FAMILIES)}); wanted args.json, vocab.json and "
        "best_model.pt, or config.json and model.safetensors: fetch the whole folder"
    )
