"""What every converter returns, and how weights get into it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.foundation.brainlm_recordings import RecordingReader
from fimp.foundation.cells import CellReader, TokenReader
from fimp.foundation.vit_images import ImageReader
from fimp.nn.foundation_message import FoundationMessage
from fimp.nn.transformer import TransformerStack


class FoundationModel(nn.Module):
    """A pretrained model, converted: embeddings of its family before the one transformer stack, heads after it.

    What arXiv 2210.09475, section 3.3, repurposes as a message creator.

    Converters subclass it and add ``embed`` and the heads.

    Parameters
    ----------
    family
        Name of the family, as registered.
    config
        The checkpoint's own configuration, as it was read.
    stack
        The transformer stack that holds the converted layers.
    source
        The folder that it comes from.
    final_norm
        The norm that upstream applies after the last layer; None if it has none. Messages and the states that
        ``stack.encode`` returns go without.

    Attributes
    ----------
    gene_mapping
        Names of genes in the data to those in the vocabulary, for a model that knows genes; None where they are the
        same.
    """

    gene_mapping: Mapping[str, str] | None = None

    def __init__(
        self,
        family: str,
        config: dict[str, Any],
        stack: TransformerStack,
        source: Path,
        final_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.family, self.config, self.source = family, config, source
        self.stack = stack
        self.final_norm = nn.Identity() if final_norm is None else final_norm

    @property
    def vocabulary_size(self) -> int | None:
        """Number of tokens that the model has embeddings of; None where it reads numbers alone."""
        return None

    @property
    def gene_table(self) -> Tensor | None:
        """Embeddings of genes ``[genes, D]``, of a model that knows genes."""
        return None

    def reader(self, genes: Sequence[str], gene_mean: Tensor, gene_deviation: Tensor) -> CellReader:
        """What tasks on cells ask of the model; gene tokens learned with the task, unless the family knows genes.

        Parameters
        ----------
        genes
            Names of the data's genes, G of them.
        gene_mean, gene_deviation
            Mean and standard deviation of their values in training cells, ``[G]``.

        Raises
        ------
        FIMPError
            If the model knows genes, and none of these.
        """
        return TokenReader(self.stack.config.dim, gene_mean, gene_deviation)

    def image_reader(self) -> ImageReader:
        """What tasks on images ask of the model.

        Raises
        ------
        FIMPError
            If it reads no images.
        """
        raise FIMPError(f"{self.source}: a {self.family} model reads no images; use a vision transformer")

    def recording_reader(self, patches: int, length: int) -> RecordingReader:
        """What tasks on brain recordings ask of the model.

        Parameters
        ----------
        patches, length
            Patches of a window, and time points of a patch, of the task.

        Raises
        ------
        FIMPError
            If it reads no recordings, or patches do not fit.
        """
        raise FIMPError(f"{self.source}: a {self.family} model reads no recordings; use BrainLM")

    def message(
        self,
        aggregate: Literal["final", "layer"] = "final",
        layers: slice | str | None = None,
        edges_per_chunk: int | None = None,
        backend: str = "auto",
    ) -> FoundationMessage:
        """A message creator for :class:`fimp.nn.FIMPConv` that shares this model's layers.

        Parameters are those of :class:`fimp.nn.FoundationMessage`; what is frozen or trained here is so there.
        """
        return FoundationMessage(self.stack, aggregate, layers, edges_per_chunk, backend)

    def info(self) -> dict[str, Any]:
        """What ``fimp models info`` prints.

        Returns
        -------
        dict
            ``family``, ``layers``, ``width``, ``heads``, ``parameters`` (number of weights), ``vocabulary`` (number of
            tokens, or None) and ``licence`` (as the folder states it, or None).
        """
        config = self.stack.config
        return {
            "family": self.family,
            "layers": config.layers,
            "width": config.dim,
            "heads": config.heads,
            "parameters": sum(parameter.numel() for parameter in self.parameters()),
            "vocabulary": self.vocabulary_size,
            "licence": stated_licence(self.source, self.config),
        }


@dataclass(frozen=True)
class Rows:
    """One of several equal parts of the rows of a tensor: query, key or value of a fused projection.

    Attributes
    ----------
    key
        Name of the tensor in the file.
    part, of
        Which part, from 0, of how many.
    """

    key: str
    part: int
    of: int = 3


def fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    names: Mapping[str, str | Rows],
    *,
    source: Path,
    known_unused: Collection[str] = (),
) -> None:
    """Copy the tensors of a checkpoint into a module: all of them, or none and an error.

    Parameters
    ----------
    module
        What is filled.
    state
        Tensors of the checkpoint under their own names.
    names
        For every key of ``module.state_dict()``, which tensor of the checkpoint goes there.
    source
        The file, for messages.
    known_unused
        Names, or patterns (``decoder.unused.*``), of tensors that upstream stores and does not use.

    Raises
    ------
    FIMPError
        That names the first key of the checkpoint that is missing, unexpected, of another shape or not of numbers
        with a fraction.
    """
    own = module.state_dict()
    assert own.keys() == names.keys(), sorted(own.keys() ^ names.keys())
    wanted: dict[str, Tensor] = {}
    for key, target in own.items():
        where = names[key]
        name = where if isinstance(where, str) else where.key
        if name not in state:
            raise FIMPError(
                f"{source}: key {name!r} is missing, wanted shape {_whole(target, where)}; "
                "the file is incomplete or belongs to another model"
            )
        found = state[name]
        if list(found.shape) != _whole(target, where):
            raise FIMPError(
                f"{source}: key {name!r} has shape {list(found.shape)}, wanted {_whole(target, where)}; "
                "the file and its configuration belong to different models"
            )
        if found.is_floating_point() != target.is_floating_point():
            raise FIMPError(
                f"{source}: key {name!r} has type {found.dtype}, wanted {target.dtype}; fetch plain weights"
            )
        if found.layout != torch.strided or found.device.type == "meta" or not bool(found.isfinite().all()):
            raise FIMPError(
                f"{source}: key {name!r} has entries that are NaN or infinite, or is no plain tensor; fetch it again"
            )
        wanted[key] = found if isinstance(where, str) else found.chunk(where.of)[where.part]
    used = {where if isinstance(where, str) else where.key for where in names.values()}
    for name in state:
        if name not in used and not any(fnmatchcase(name, pattern) for pattern in known_unused):
            raise FIMPError(
                f"{source}: key {name!r} with shape {list(state[name].shape)} is unexpected; "
                "the file belongs to another model, or to a variant that fimp does not read"
            )
    with torch.no_grad():
        for key, target in own.items():
            target.copy_(wanted[key])


def unfill(module: nn.Module, names: Mapping[str, str | Rows]) -> dict[str, Tensor]:
    """The inverse of :func:`fill`: a module's tensors under the names, and in the shapes, of a checkpoint."""
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in module.state_dict().items():
        where = names[key]
        if isinstance(where, str):
            out[where] = tensor.clone()
        else:
            parts.setdefault(where.key, {})[where.part] = tensor
    return out | {key: torch.cat([rows[index] for index in sorted(rows)]) for key, rows in parts.items()}


def _whole(target: Tensor, where: str | Rows) -> list[int]:
    """Shape of the tensor in the file that holds a target."""
    shape = list(target.shape)
    return shape if isinstance(where, str) else [shape[0] * where.of, *shape[1:]]


def stated_licence(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The licence that a folder states.

    It is looked for in the head of ``README.md``, in the first line of ``LICENSE`` and in the configuration.
    """
    head = re.match(r"---\s*\n(.*?)\n---\s*$", _beginning(folder / "README.md"), re.DOTALL | re.MULTILINE)
    in_head = re.search(r"^license:\s*(\S[^\n]*)$", head[1], re.MULTILINE) if head else None
    if in_head:
        return in_head[1].strip().strip("\"'")
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        if text := _beginning(folder / name).strip():
            return text.split("\n")[0].strip()
    stated = config.get("license")
    return stated if isinstance(stated, str) and stated else None


def _beginning(path: Path) -> str:
    """The first characters of a text file; nothing where there is none."""
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(10_000)
