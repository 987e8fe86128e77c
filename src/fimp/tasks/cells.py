"""Reading cells for tasks, where a foundation model may say which genes there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fimp.data.cells import CellGraph, CellOptions, CellReference, load_cells
from fimp.errors import FIMPError
from fimp.models.foundation import load_mapped

if TYPE_CHECKING:
    from anndata import AnnData


def read_cells(
    source: AnnData | str | Path | Sequence[AnnData | str | Path],
    options: CellOptions,
    reference: CellReference | None = None,
) -> CellGraph:
    """:func:`fimp.data.load_cells`, restricted to the genes that the model in ``options.vocabulary`` knows.

    Every model of a comparison then has the genes of the foundation model, as in appendix A of the paper. With the
    reference of a trained model, genes are those of that model.

    Raises
    ------
    FIMPError
        As :func:`fimp.data.load_cells`; if the folder is no checkpoint, or one that knows no genes, or none of these.
    """
    if options.vocabulary is None or reference is not None:
        return load_cells(source, options, reference=reference)
    folder, _, option = options.vocabulary.partition(",")
    name, _, mapping = option.partition("=")
    if option and (name.strip() != "mapping" or not mapping.strip()):
        raise FIMPError(f"--vocabulary: {option!r} is no option; wanted FOLDER, or FOLDER,mapping=FILE")
    model = load_mapped(folder, mapping.strip() or None)

    def known(genes: Sequence[str]) -> tuple[NDArray[np.int64], str]:
        match = getattr(model, "match", None)
        if match is None:
            raise FIMPError(
                f"--vocabulary: {folder} is a model of the family {model.family}, which knows no genes; "
                "give the folder of one that does"
            )
        found = match(genes)
        return np.flatnonzero(found.ids >= 0), f"--vocabulary {folder}: {found.report}"

    return load_cells(source, options, known=known)
