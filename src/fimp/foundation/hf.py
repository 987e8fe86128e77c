"""Folders as ``save_pretrained`` of the transformers library writes them: ``config.json`` and weights."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from fimp.errors import FIMPError

#: Where weights are looked for, in this order; an index lists the files that together hold them.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

#: What BERT, and layers after its model, call the parts of a :class:`fimp.nn.TransformerLayer`.
BERT_LAYER = {
    "q_proj": "attention.self.query",
    "k_proj": "attention.self.key",
    "v_proj": "attention.self.value",
    "value_conv": "attention.self.conv",
    "out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}

T = TypeVar("T", bool, int, float, str)

#: What a user calls the types of JSON.
_KINDS = {bool: "true or false", int: "a whole number below 2^31", float: "a finite number", str: "a text"}


@dataclass(frozen=True)
class Settings:
    """Entries of a JSON file, read with their types checked.

    Attributes
    ----------
    values
        All of them.
    path
        The file, for messages.
    """

    values: dict[str, Any]
    path: Path

    def get(self, name: str, kind: type[T], default: T | None = None) -> T:
        """One entry; the default where it is absent or null.

        Raises
        ------
        FIMPError
            If it is of another type, or absent without a default.
        """
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise FIMPError(f"{self.path}: {name!r} is missing, wanted {_KINDS[kind]}; fetch the file again")
            return default
        if kind is float and type(value) is int and abs(value) < 2**31:
            value = float(value)
        if type(value) is not kind or not _sensible(value):
            raise FIMPError(f"{self.path}: {name!r} is {value!r}, wanted {_KINDS[kind]}; fetch the file again")
        return value

    def pair(self, name: str, default: int) -> tuple[int, int]:
        """A height and a width, given as one positive whole number or as two.

        Raises
        ------
        FIMPError
            If it is anything else.
        """
        value = self.values.get(name)
        value = default if value is None else value
        both = [value, value] if type(value) is int else value
        if not isinstance(both, list) or len(both) != 2 or not all(type(x) is int and 0 < x < 2**31 for x in both):
            raise FIMPError(
                f"{self.path}: {name!r} is {value!r}, wanted one or two positive whole numbers; fetch the file again"
            )
        return both[0], both[1]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's name before errors of what is made from its content, sizes beyond any memory included.

    Errors that name a file of the same folder stay as they are.

    Raises
    ------
    FIMPError
        Where what runs within raises one, or runs out of numbers or memory.
    """
    try:
        yield
    except (FIMPError, RuntimeError, MemoryError, OverflowError) as error:
        message = str(error) if isinstance(error, FIMPError) else _one_line(error)
        raise FIMPError(message if message.startswith(str(path.parent)) else f"{path}: {message}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises
    ------
    FIMPError
        If the file is missing, unreadable or holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FIMPError(f"{path}: not readable as JSON ({_one_line(error)}); fetch the file again") from error
    if not isinstance(content, dict):
        raise FIMPError(f"{path}: holds a JSON {type(content).__name__}, wanted an object; fetch the file again")
    return content


def model_type(folder: Path) -> str | None:
    """The ``model_type`` that a folder's ``config.json`` names; None where there is no such file or no such entry.

    Raises
    ------
    FIMPError
        If ``config.json`` is there and cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    found = read_json(path).get("model_type")
    return found if isinstance(found, str) else None


def read_weights(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """All tensors of a folder by name, and the file (or index) they come from.

    Nothing is unpickled freely: ``.bin`` files are read with ``weights_only=True``.

    Raises
    ------
    FIMPError
        If there are no weights, a file is damaged or missing, or holds anything but named tensors.
    """
    for name in WEIGHT_FILES:
        path = folder / name
        if path.is_file():
            return (_read_shards(path) if name.endswith(".json") else read_tensors(path)), path
    raise FIMPError(f"{folder}: no weights; wanted one of {', '.join(WEIGHT_FILES)}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one ``.safetensors`` file or of one file that ``torch.save`` wrote.

    Raises
    ------
    FIMPError
        If the file cannot be read or holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _verify(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FIMPError:
        raise
    except pickle.UnpicklingError as error:
        raise FIMPError(
            f"{path}: damaged, or a pickle of more than tensors, which could run code and was not loaded; "
            "convert it to model.safetensors where it comes from"
        ) from error
    # What a damaged file raises depends on the byte that is wrong.
    except Exception as error:
        raise FIMPError(f"{path}: not readable as weights ({_one_line(error)}); fetch the file again") from error
    if not isinstance(state, dict):
        raise FIMPError(f"{path}: holds a {type(state).__name__}, wanted tensors by name; export the state dict")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise FIMPError(
                f"{path}: entry {key!r} is a {type(value).__name__}, wanted a tensor; export the state dict alone"
            )
    return state


def _verify(path: Path) -> None:
    """Compare the parts of a file of ``torch.save`` with their checksums, which torch itself does not look at.

    Raises
    ------
    FIMPError
        If one differs: the weights would load, and be wrong.
    """
    if not zipfile.is_zipfile(path):  # as torch wrote before 1.6, without checksums
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise FIMPError(f"{path}: damaged, the checksum of its part {damaged!r} is wrong; fetch the file again")


def _read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that an index names."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise FIMPError(f"{index}: no 'weight_map' from tensors to files; fetch the file again")
    state: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        # An index is somebody else's file: it may name files of its own folder only.
        if Path(name).name != name:
            raise FIMPError(f"{index}: names the file {name!r}, wanted one beside it; fetch the index again")
        if not (index.parent / name).is_file():
            raise FIMPError(f"{index.parent / name}: missing, but {index.name} names it; fetch it too")
        state.update(read_tensors(index.parent / name))
    lost = [key for key in weight_map if key not in state]
    if lost:
        raise FIMPError(f"{index}: tensor {lost[0]!r} is not in {weight_map[lost[0]]!r}; fetch that file again")
    return state


def _sensible(value: Any) -> bool:
    """False for the numbers that JSON can hold and a model cannot: NaN, infinity and whole ones without a limit."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < 2**31


def _one_line(error: BaseException) -> str:
    """The first words of an error."""
    return " ".join(str(error).split())[:120] or type(error).__name__
