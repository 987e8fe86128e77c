"""Names of models that stand for a checkpoint: ``fimp:FOLDER`` and ``fm:FOLDER``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, Literal

from fimp.errors import FIMPError

#: Prefixes of a model's name that say what the folder after them is used for.
KINDS = {
    "fimp": "messages made by the foundation model in the folder",
    "fm": "the foundation model in the folder, without the graph",
}
#: Which weights of the folder are used; the others are drawn anew.
WEIGHTS = ("all", "none", "genes", "layers")


#: What the files of a model end in; others in its folder change nothing.
_SUFFIXES = (".json", ".safetensors", ".pt", ".bin", ".pkl", ".pickle", ".npz", ".parquet")


@dataclass(frozen=True)
class FileMark:
    """The file or folder that a model's name stands for, as it was when it was used.

    Attributes
    ----------
    path
        Where it is, whatever folder the command is given in.
    sha256
        Of what is in it, and in the mapping.
    mapping
        Where the file is that renames genes; None where there is none.
    """

    path: str
    sha256: str
    mapping: str | None = None

    @classmethod
    def of(cls, path: str | Path, mapping: str | None = None) -> FileMark:
        """The mark of a file, or of the files of a folder, and of a mapping; that of nothing where there is none."""
        place = Path(path).expanduser().resolve()
        renames = None if mapping is None else Path(mapping).expanduser().resolve()
        found = sorted(one for one in place.iterdir() if one.suffix in _SUFFIXES) if place.is_dir() else [place]
        found += [] if renames is None else [renames]
        stamps = tuple((one, one.stat().st_mtime_ns, one.stat().st_size) for one in found if one.is_file())
        return cls(str(place), _digest(stamps), None if renames is None else str(renames))


@lru_cache(maxsize=16)
def _digest(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    out = hashlib.sha256()
    for path, _, size in stamps:
        out.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            out.update(hashlib.file_digest(file, "sha256").digest())
    return out.hexdigest()


@dataclass(frozen=True)
class FoundationChoice:
    """A foundation model on the command line: ``fimp:FOLDER[,option=value]``.

    Attributes
    ----------
    folder
        The checkpoint.
    graph
        Whether neighbours send messages (``fimp:``), or nodes are on their own (``fm:``).
    aggregate
        ``layer`` or ``final``, as in :class:`fimp.nn.FoundationMessage`.
    layers
        Which layers are used: ``-4:``, for instance; all by default.
    train
        ``full``, ``frozen`` (only what the task adds is trained), ``last-K`` (the last K layers, too) or ``lora-R``
        (low-rank changes of rank R of all linear maps in the layers, arXiv 2106.09685).
    weights
        ``all``; or, to see what matters, ``none``, or those of the ``genes`` (their embeddings) or of the ``layers``
        alone.
    mapping
        File that renames genes of the data to those of the vocabulary
        (:func:`fimp.foundation.vocabulary.read_mapping`).
    scope
        ``node``: every node is a sequence. ``graph``: all that belongs together is one, all regions of a brain.

    Raises
    ------
    FIMPError
        If a value is unknown, or options exclude each other.
    """

    folder: str
    graph: bool
    aggregate: Literal["layer", "final"] = "layer"
    layers: str | None = None
    train: str = "full"
    weights: str = "all"
    mapping: str | None = None
    scope: Literal["node", "graph"] = "node"

    def __post_init__(self) -> None:
        if self.scope not in ("node", "graph"):
            raise FIMPError(f"--models: scope={self.scope!r} is unknown; use node or graph")
        if self.scope == "graph" and self.graph:
            raise FIMPError("--models: scope=graph leaves nobody to send messages to; use it with fm:FOLDER")
        if self.scope == "graph" and (self.train == "frozen" or self.layers is not None):
            raise FIMPError("--models: scope=graph takes the model as it is; leave out train=frozen and layers")
        if self.aggregate not in ("layer", "final"):
            raise FIMPError(f"--models: aggregate={self.aggregate!r} is unknown; use layer or final")
        if self.weights not in WEIGHTS:
            raise FIMPError(f"--models: weights={self.weights!r} is unknown; use {', '.join(WEIGHTS)}")
        if self.train not in ("full", "frozen") and not self.last_layers and not self.lora_rank:
            raise FIMPError(
                f"--models: train={self.train!r} is unknown; use full, frozen, last-2 or lora-8, for instance"
            )

    @property
    def last_layers(self) -> int:
        """K of ``last-K``; 0 where it is not that."""
        return self._number("last-")

    @property
    def lora_rank(self) -> int:
        """R of ``lora-R``; 0 where it is not that."""
        return self._number("lora-")

    def _number(self, prefix: str) -> int:
        count = self.train.removeprefix(prefix)
        return int(count) if count != self.train and count.isascii() and count.isdigit() else 0


def parse(name: str) -> FoundationChoice | None:
    """Understand ``fimp:FOLDER[,option=value]`` and ``fm:FOLDER[,option=value]``; None for any other name.

    Raises
    ------
    FIMPError
        If the folder is empty, or an option is unknown or given twice.
    """
    kind, colon, rest = name.partition(":")
    if not colon or kind not in KINDS:
        return None
    folder, *parts = rest.split(",")
    if not folder.strip():
        raise FIMPError(f"--models: {name!r} names no folder; write {kind}:FOLDER")
    known = tuple(field for field in FoundationChoice.__dataclass_fields__ if field not in ("folder", "graph"))
    options: dict[str, Any] = {}
    for part in parts:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in known or not value:
            raise FIMPError(f"--models: {part.strip()!r} of {name!r} is no option; known are {', '.join(known)}")
        if key in options:
            raise FIMPError(f"--models: {key} is given twice in {name!r}; give it once")
        options[key] = value
    return FoundationChoice(folder.strip(), kind == "fimp", **options)


def split_names(names: str) -> list[str]:
    """The names in a comma-separated list; ``option=value`` after a comma belongs to the model before it."""
    parts: list[str] = []
    for part in (part.strip() for part in names.split(",")):
        if parts and part.partition("=")[0].strip().isidentifier() and "=" in part:
            parts[-1] += f",{part}"
        elif part:
            parts.append(part)
    return parts


def short_name(name: str) -> str:
    """A model's name for figures: of the path of a checkpoint only the folder, as in ``fimp:scgpt,weights=none``."""
    if parse(name) is None:
        return name
    kind, _, rest = name.partition(":")
    folder, comma, options = rest.partition(",")
    return f"{kind}:{PurePath(folder).name or folder}{comma}{options}"
