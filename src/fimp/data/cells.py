"""Cells: an AnnData, or several, become a graph of cells with sparse expression."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fimp.data import graphs
from fimp.data.cell_graph import CellGraph, CellReference, to_scipy, to_torch
from fimp.data.disk_matrix import DiskMatrix, Values, row_blocks, take_rows
from fimp.data.genes import most_variable, take_genes
from fimp.data.joining import join_cells, stems
from fimp.data.labels import classes_of, known_classes
from fimp.data.matrix import kept_share, median_total, normalize_counts, silence
from fimp.data.neighbors import neighbor_edges
from fimp.data.options import CellOptions
from fimp.data.reading import Cells, open_source, read_cells
from fimp.data.sections import crop_sections, held_out_cells
from fimp.data.splits import check_size
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from anndata import AnnData

#: By what factor the share of a model's genes in a cell's counts may differ from that in training, without a remark.
_OTHER_SHARE = 2.0

__all__ = ["CellGraph", "CellOptions", "CellReference", "load_cells", "to_scipy", "to_torch"]


def load_cells(
    source: AnnData | str | Path | Sequence[AnnData | str | Path],
    options: CellOptions = CellOptions(),
    name: str | None = None,
    reference: CellReference | None = None,
    known: Callable[[Sequence[str]], tuple[NDArray[np.int64], str]] | None = None,
) -> CellGraph:
    """Read an AnnData, or several, into a graph of cells.

    Parameters
    ----------
    source
        An AnnData, the path of an .h5ad file or a .zarr store, the name of a dataset, or a list of these. In a list
        every file is a section, named by its stem (``stem/section`` where the file has sections inside), and genes
        are joined by name: the shared ones, in the order of the first file, are all that is known of a cell.
    options
        Matrix, graph, crop, genes, sections and labels.
    name
        Name in messages and results; the file's name by default.
    reference
        What a trained model fixes (:attr:`CellGraph.reference`): then genes are its genes, found by name
        (see :func:`fimp.data.genes.match_genes`), counts are scaled to its total (over all genes of the new
        file), and labels are its classes. All cells are read, be it a single one: ``fraction``, ``genes`` and
        ``test_section`` are of no effect.

    known
        Which genes are kept before the most variable ones are chosen: takes names, gives indices and a note.

    Returns
    -------
    CellGraph
        A ``torch_geometric.data.Data`` with

        - ``x``: values, sparse CSR ``[N, G]`` float32 (log1p of normalised counts, or continuous), or a
          :class:`fimp.data.disk_matrix.DiskMatrix` of the same where they stay on disk
        - ``scale``: factor of each cell's counts before log1p ``[N]`` float64, or None where values are not counts
        - ``target_total``: total that counts are scaled to, the median of the cells outside test sections, or None
        - ``share``: share of a cell's counts that these genes have, in the median, or None
        - ``edge_index``: ``[2, E]``, source in row 0; no edge crosses sections
        - ``pos``: coordinates ``[N, 2 or 3]`` float64, or None
        - ``section``, ``section_names``: section of each cell ``[N]`` int64 (-1: in none) and names, or None
        - ``held_out``: True for cells of test sections ``[N]``, or None
        - ``y``, ``classes``: class of each cell ``[N]`` int64 (-1: unlabelled) and names, or None
        - ``cell_index``: rows of the AnnData that the nodes are ``[N]``; of several AnnData one below the other
        - ``gene_names``, ``name``, ``notes``: lists of strings, a name, and remarks for the user
        - ``reference``: what a model trained on it needs to read other cells

    Raises
    ------
    FIMPError
        For anything in the files that cannot be used.

    Notes
    -----
    A matrix in a file (of a path, or of an AnnData in backed mode) that would take more memory than
    :func:`fimp.data.memory.memory_budget` allows is never loaded. Its rows are read once, block by block, and what the
    model is to see of them is written to a temporary file, from which rows are read when a batch needs them. Memory
    then holds tables, coordinates and edges of all cells, the total, scale and place in the file of each, and a block
    of some 2**20 values. All results are the same to the digit. A graph from expression is the exception: it loads the
    values of one section at a time.
    """
    several = isinstance(source, (list, tuple))
    sources: list[AnnData | str | Path] = list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise FIMPError("--data: no file; pass an .h5ad file or a name that `fimp data list` shows")
    parts = []
    for one, stem in zip(sources, stems(sources), strict=True):
        with open_source(one) as (adata, own_name):
            in_memory = not isinstance(one, (str, Path))
            label = stem if several and in_memory else own_name
            parts.append(read_cells(adata, options, label if several or name is None else name, stem, reference))
    cells = _without_few(join_cells(parts, options.graph), options, new=reference is None)
    if name is not None:
        cells = replace(cells, name=name)
    return _known(cells, options, reference) if reference is not None else _new(cells, options, known)


def _without_few(cells: Cells, options: CellOptions, new: bool) -> Cells:
    """Cells of fewer than ``min_counts`` counts as empty ones."""
    if not cells.is_counts:
        return cells
    values, few = silence(cells.values, options.min_counts, cells.total)
    if not few:
        return cells
    if new and values.nnz == 0:
        raise FIMPError(
            f"{cells.name}: no cell has {options.min_counts} counts or more; use a smaller --min-counts, or 0"
        )
    note = f"{few:,} cells of fewer than {options.min_counts} counts say nothing; they stay in the graph (--min-counts)"
    return replace(cells, values=values, notes=(*cells.notes, note))


def _new(
    cells: Cells,
    options: CellOptions,
    known: Callable[[Sequence[str]], tuple[NDArray[np.int64], str]] | None = None,
) -> CellGraph:
    """A graph to train on."""
    name, notes = cells.name, []
    allowed = np.arange(len(cells.genes))
    if known is not None:
        allowed, note = known(cells.genes)
        notes.append(note)
    if options.fraction < 1.0:
        if options.outside and cells.positions is None:
            raise FIMPError(
                f"{name}: --outside needs coordinates in obsm['{options.spatial_key}'] to know what the crop is; "
                "name them with --spatial-key"
            )
        kept = crop_sections(_crop_space(cells), options.fraction, cells.section)
        cells = cells.take(np.setdiff1d(np.arange(len(cells.index)), kept) if options.outside else kept)
    held_out = held_out_cells(cells.section, options.test_section, name)
    check_size(len(cells.index), name)
    # Nothing is learned from test sections: neither a total, nor which genes vary.
    seen = cells.values if held_out is None else take_rows(cells.values, np.flatnonzero(~held_out))
    if seen.nnz == 0:
        which = "cropped cells" if held_out is None else "cells outside the test sections"
        raise FIMPError(f"{name}: every value of the {which} is zero; use a larger --fraction or other sections")
    target = median_total(seen) if cells.is_counts else None
    of_cells = "a cell" if held_out is None else "a cell outside the test sections"
    values, scale, how = _normalised(cells, target, f"the median total of {of_cells}")
    notes += how
    if held_out is not None:
        test = ", ".join(dict.fromkeys(options.test_section))
        notes.append(f"test sections: {test}; {int(held_out.sum()):,} of {len(held_out):,} cells")
    # Counts were scaled by the totals over all genes: a vocabulary does not change a value.
    candidates = values if len(allowed) == len(cells.genes) else take_genes(values, allowed)
    kept = allowed[most_variable(candidates, options.genes, None if held_out is None else np.flatnonzero(~held_out))]
    if len(kept) < len(allowed):
        notes.append(f"genes: kept the {len(kept):,} most variable of {len(allowed):,}")
    if len(kept) < len(cells.genes):
        values, genes = take_genes(values, kept), [cells.genes[index] for index in kept]
        cells = replace(cells, genes=genes)
    y = classes = None
    if cells.label is not None:
        assert options.label is not None
        y, classes, how = classes_of(cells.label, options.label, name)
        notes += how
    return _graph(cells, options, values, scale, target, notes, held_out=held_out, y=y, classes=classes)


def _known(cells: Cells, options: CellOptions, reference: CellReference) -> CellGraph:
    """A graph of cells for a trained model."""
    values, scale, notes = _normalised(cells, reference.target_total, "the total that the model was trained with")
    if reference.target_total is not None and reference.share:
        found = kept_share(values, reference.target_total)
        if not reference.share / _OTHER_SHARE <= found <= reference.share * _OTHER_SHARE:
            notes.append(
                f"the model's genes hold {found:.0%} of a cell's counts here and held {reference.share:.0%} where it "
                "was trained, so that values of the two do not compare; give cells with all genes that were measured "
                "there, and no others"
            )
    y = classes = None
    if reference.classes is not None:
        classes = list(reference.classes)
        y, how = known_classes(cells.label, classes, options.label, len(cells.index))
        notes += how
    return _graph(cells, options, values, scale, reference.target_total, notes, y=y, classes=classes)


def _normalised(cells: Cells, target: float | None, total: str) -> tuple[Values, NDArray[np.float64] | None, list[str]]:
    if target is None:
        note = f"{cells.source}: not raw counts; used as they are, without normalisation or log1p"
        return cells.values, None, [note]
    values, scale = normalize_counts(cells.values, target, cells.total)
    return values, scale, [f"{cells.source}: raw counts, scaled to {total}, then log1p"]


def _graph(
    cells: Cells,
    options: CellOptions,
    values: Values,
    scale: NDArray[np.float64] | None,
    target: float | None,
    notes: list[str],
    *,
    held_out: NDArray[np.bool_] | None = None,
    y: NDArray[np.int64] | None = None,
    classes: list[str] | None = None,
) -> CellGraph:
    edge_index, how = neighbor_edges(cells, values, options)
    if repeated := _repeated(cells):
        how.append(f"{repeated} cells lie exactly where another cell lies; check for cells listed twice")
    if copied := _in_two_sections(cells):
        alike = "values" if cells.positions is None else "values and place"
        how.append(
            f"{copied:,} cells are also in another section (same {alike}): models may be tested on what they were "
            "trained on; give every cell once"
        )
    if isinstance(values, DiskMatrix):
        how.append(f"values: {values.nnz:,}, more than memory is meant to hold (FIMP_MEMORY_BUDGET); they stay on disk")
    arrays = {
        "scale": scale,
        "pos": cells.positions,
        "section": None if cells.section is None else cells.section.codes,
        "held_out": held_out,
        "y": y,
        "cell_index": cells.index,
    }
    return CellGraph(
        x=values if isinstance(values, DiskMatrix) else to_torch(values),
        edge_index=edge_index,
        **{key: None if array is None else torch.from_numpy(array) for key, array in arrays.items()},
        target_total=target,
        share=None if target is None else kept_share(values, target),
        section_names=None if cells.section is None else cells.section.names,
        classes=classes,
        num_nodes=len(cells.index),
        gene_names=cells.genes,
        name=cells.name,
        notes=[*cells.notes, *notes, *how],
    )


def _repeated(cells: Cells) -> int:
    """Number of cells that lie where another cell of their section lies."""
    if cells.positions is None:
        return 0
    section = np.zeros(len(cells.index)) if cells.section is None else cells.section.codes
    return len(cells.positions) - len(np.unique(np.column_stack([section, cells.positions]), axis=0))


def _in_two_sections(cells: Cells) -> int:
    """Number of cells that a cell of an earlier section equals, in values and place; those without values aside."""
    if cells.section is None:
        return 0
    rows = np.flatnonzero(np.diff(cells.values.indptr) > 0)
    place = np.zeros(len(cells.index), dtype=np.int64)
    if cells.positions is not None:
        place = np.unique(cells.positions, axis=0, return_inverse=True)[1].ravel()
        # Few cells have the place of another one: values of no others are looked at.
        rows = rows[np.bincount(place[rows])[place[rows]] > 1]
    marks = np.empty(len(rows), dtype=np.uint64)
    for span, block in row_blocks(cells.values, rows):
        block.sort_indices()
        ends, columns = block.indptr.tolist(), block.indices.astype(np.int64)
        for number, start, stop in zip(range(span.start, span.stop), ends, ends[1:], strict=False):
            content = hashlib.blake2b(place[rows[number]].tobytes(), digest_size=8)
            content.update(columns[start:stop].tobytes())
            content.update(block.data[start:stop].tobytes())
            marks[number] = int.from_bytes(content.digest(), "little")
    of_section = np.stack([marks, cells.section.codes[rows].astype(np.uint64)])
    return np.unique(of_section, axis=1).shape[1] - len(np.unique(marks))


def _crop_space(cells: Cells) -> NDArray[np.floating]:
    """Where 'contiguous' is measured: coordinates, or the first principal components of expression."""
    if cells.positions is not None:
        return cells.positions
    return graphs.principal_components(cells.values[np.arange(len(cells.index))], 10)
