"""Checkpoints without pickle: tensors in safetensors, everything else as JSON in the same file's header."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fimp.errors import FIMPError

_TENSOR = "__tensor__"
_PAIRS = "__pairs__"


def save_tree(tree: Any, path: str | Path) -> None:
    """Write a nested structure of dicts, lists, tuples, numbers, strings and tensors.

    The file appears whole or not at all.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_strip(tree, tensors))
    # The format refuses tensors that share memory, as weights under two names do; others need no second copy.
    places: set[int] = set()
    for key, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        tensors[key] = tensor.clone() if place in places else tensor
        places.add(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two writers apart; the rename is atomic on one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, metadata={"tree": header})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_tree(path: str | Path, part: str | None = None) -> Any:
    """Read what :func:`save_tree` wrote; tuples come back as lists.

    Parameters
    ----------
    path
        The file.
    part
        What alone is read of a dict, where it has such a part: optimizer states are twice as large as the weights.

    Raises
    ------
    FIMPError
        If the file is missing, damaged or not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})["tree"])
            return _fill(tree.get(part, tree) if part else tree, file.get_tensor)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FIMPError(f"{path}: not a readable checkpoint of fimp ({error}); train again") from error


def _strip(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        key = str(len(tensors))
        tensors[key] = node.detach().cpu().contiguous()
        return {_TENSOR: key}
    if isinstance(node, dict):
        if all(isinstance(key, str) for key in node):
            return {key: _strip(value, tensors) for key, value in node.items()}
        return {_PAIRS: [[key, _strip(value, tensors)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        return [_strip(value, tensors) for value in node]
    return node


def _fill(node: Any, tensor: Callable[[str], Tensor]) -> Any:
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensor(node[_TENSOR])
        if _PAIRS in node:
            return {key: _fill(value, tensor) for key, value in node[_PAIRS]}
        return {key: _fill(value, tensor) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, tensor) for value in node]
    return node


class SafeCheckpointIO(CheckpointIO):
    """Lets Lightning write and read its checkpoints through :func:`save_tree` and :func:`load_tree`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write Lightning's checkpoint dictionary."""
        save_tree(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read it back; nothing is ever unpickled, whatever ``weights_only`` says."""
        tree: dict[str, Any] = load_tree(path)
        return tree

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load_weights(module: torch.nn.Module, path: str | Path, prefix: str = "") -> None:
    """Load the ``state_dict`` of a checkpoint into a module.

    Raises
    ------
    FIMPError
        If a key is missing, unexpected or of another shape; the first one is named.
    """
    stored = load_tree(path, "state_dict")
    state = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
    own = module.state_dict()
    for key in own:
        if key not in state:
            raise FIMPError(f"{path}: key {key!r} is missing; the checkpoint belongs to another model")
        if state[key].shape != own[key].shape:
            raise FIMPError(
                f"{path}: {key!r} has shape {list(state[key].shape)}, wanted {list(own[key].shape)}; "
                "the checkpoint belongs to another model or other data"
            )
    unexpected = [key for key in state if key not in own]
    if unexpected:
        raise FIMPError(f"{path}: key {unexpected[0]!r} is unexpected; the checkpoint belongs to another model")
    module.load_state_dict(state)
