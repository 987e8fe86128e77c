"""Cells of several files become one table, in which every file is a section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.data.columns import Coded, join_columns
from fimp.data.disk_matrix import Values, stack_rows
from fimp.data.genes import shared_genes, take_genes
from fimp.data.reading import Cells
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData


def stems(sources: Sequence[AnnData | str | Path]) -> list[str]:
    """A short name for each source: the file's stem, its whole path where stems are not unique.

    Raises
    ------
    FIMPError
        If a source is given twice: its cells would be in several parts of a split.
    """
    keys = [Path(source).resolve() if isinstance(source, (str, Path)) else id(source) for source in sources]
    for key, count in Counter(keys).items():
        if count > 1:
            shown = key if isinstance(key, Path) else "an AnnData"
            raise FIMPError(f"--data: {shown} is given {count} times; give every file once")
    short = [
        Path(source).stem if isinstance(source, (str, Path)) else f"AnnData {number}"
        for number, source in enumerate(sources, 1)
    ]
    counts = Counter(short)
    return [one if counts[one] == 1 else str(source) for one, source in zip(short, sources, strict=True)]


def join_cells(parts: Sequence[Cells], graph: str) -> Cells:
    """Put cells of several files together.

    Genes are joined by name, in the order of the first file; what follows, total counts included, knows the
    shared genes alone. A file becomes a section under its stem, or several where it has sections inside.

    Raises
    ------
    FIMPError
        If the files share fewer than two genes, mix counts and other values, or have coordinates of different kinds.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    names = [part.name for part in parts]
    for part in parts[1:]:
        if part.is_counts != first.is_counts:
            kinds = [
                f"{p.name}: {p.source} holds {'raw counts' if p.is_counts else 'other values'}" for p in (first, part)
            ]
            raise FIMPError(f"{'; '.join(kinds)}; wanted the same kind in all files: choose a matrix with --layer")
    genes, notes = shared_genes([part.genes for part in parts], names)
    aligned = [part.values if part.genes == genes else _aligned(part, genes) for part in parts]
    positions, adjacency = [part.positions for part in parts], [part.adjacency for part in parts]
    notes += [f"{part.name}: {note}" for part in parts for note in part.notes]
    labels = [part.label for part in parts]
    totals = [part.total for part in parts]
    have = [matrix for matrix in adjacency if matrix is not None]
    if have and len(have) < len(parts):
        notes.append(f"obsp['spatial_connectivities'] is in {len(have)} of {len(parts)} files only, and not used")
    starts = np.cumsum([0, *(part.values.shape[0] for part in parts)])
    return Cells(
        name=" + ".join(part.stem for part in parts),
        stem="",
        values=stack_rows(aligned),
        total=_concatenated(totals),
        is_counts=first.is_counts,
        source=", ".join(dict.fromkeys(part.source for part in parts)),
        genes=genes,
        positions=_concatenated(positions) if _alike(parts, graph) else None,
        adjacency=sparse.block_diag(have, format="csr") if len(have) == len(parts) else None,
        section=_sections(parts),
        label=_labels(labels, parts),
        index=np.concatenate([part.index + start for part, start in zip(parts, starts, strict=False)]),
        notes=(f"sections: one per file, {len(parts)} files; no edge crosses them", *notes),
    )


def _aligned(part: Cells, genes: list[str]) -> Values:
    column = {gene: index for index, gene in enumerate(part.genes)}
    return take_genes(part.values, np.array([column[gene] for gene in genes], dtype=np.int64))


def _concatenated(arrays: Sequence[Any]) -> Any:
    return None if any(array is None for array in arrays) else np.concatenate(arrays)


def _alike(parts: Sequence[Cells], graph: str) -> bool:
    """Whether all files have coordinates of the same dimension."""
    if graph == "expression":
        shapes = {None if part.positions is None else part.positions.shape[1] for part in parts}
        return len(shapes) == 1
    kinds = [f"{part.positions.shape[1]}-D" if part.positions is not None else "no" for part in parts]
    for part, kind in zip(parts, kinds, strict=True):
        if kind != kinds[0]:
            raise FIMPError(
                f"{part.name} has {kind} coordinates, {parts[0].name} has {kinds[0]} coordinates; wanted the same in "
                "all files: give them the same, or use --graph expression"
            )
    return True


def _sections(parts: Sequence[Cells]) -> Coded:
    codes: list[NDArray[np.int64]] = []
    names: list[str] = []
    for part in parts:
        if part.section is None:
            codes.append(np.full(part.values.shape[0], len(names), dtype=np.int64))
            names.append(part.stem)
            continue
        inside = part.section.codes
        codes.append(np.where(inside < 0, -1, inside + len(names)))
        names += [f"{part.stem}/{name}" for name in part.section.names]
    return Coded(np.concatenate(codes), names, "text")


def _labels(labels: Sequence[Coded | None], parts: Sequence[Cells]) -> Coded | None:
    if all(label is None for label in labels):
        return None
    # Only cells for a trained model come without labels here.
    missing = [Coded(np.full(part.values.shape[0], -1, dtype=np.int64), [], "text") for part in parts]
    return join_columns([own if own is not None else none for own, none in zip(labels, missing, strict=True)])
