"""GenePT (Chen and Zou 2024, doi 10.1038/s41551-024-01284-6): gene embeddings that a language model made from text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.errors import FIMPError
from fimp.foundation.pickles import read_pickle
from fimp.foundation.vocabulary import match_vocabulary

#: Names under which a ``.npz`` holds the genes and the matrix.
_GENES, _MATRIX = "genes", "embeddings"


def read_gene_table(path: str | Path) -> tuple[list[str], NDArray[np.float32]]:
    """Read a table of gene embeddings.

    Parameters
    ----------
    path
        One of

        - ``.pickle`` or ``.pkl``: a dict from gene to vector (list of numbers or array), as GenePT publishes it. Read
          by :func:`fimp.foundation.pickles.read_pickle`, which runs nothing;
        - ``.npz``: arrays ``genes [G]`` and ``embeddings [G, W]``, or one array ``[W]`` per gene under its name;
        - ``.parquet``: genes as index, or as first column where that is text; either a column per number, or one
          column of lists.

    Returns
    -------
    tuple
        Genes, and their vectors ``[G, W]``.

    Raises
    ------
    FIMPError
        If the file cannot be read, holds anything else, or has vectors of several lengths, without a number, or with
        NaN or infinity.
    """
    path = Path(path)
    readers = {".pickle": _from_pickle, ".pkl": _from_pickle, ".npz": _from_npz, ".parquet": _from_parquet}
    if path.suffix not in readers:
        raise FIMPError(f"{path}: a table of gene embeddings ends in {', '.join(readers)}; convert it")
    genes, vectors = readers[path.suffix](path)
    if not genes:
        raise FIMPError(f"{path}: holds no genes; fetch the file again")
    twice = pd.Index(genes).duplicated()
    if twice.any():
        raise FIMPError(f"{path}: gene {genes[int(twice.argmax())]!r} is there twice; keep one of its vectors")
    return genes, _stacked(path, genes, vectors)


def gene_vectors(path: str | Path, genes: Sequence[str], name: str = "data") -> tuple[Tensor, str]:
    """Rows of a table for the genes of a data set, as :class:`fimp.tokenizers.GeneTokenizer` takes them.

    Vectors made from text have much in common; the mean is taken off, and the scale is such that a projection of them
    starts about where a learned table does. A gene that the table lacks gets the mean, which is zero then.

    Parameters
    ----------
    path
        See :func:`read_gene_table`.
    genes
        Names of the genes, G of them, found as :func:`fimp.foundation.vocabulary.match_vocabulary` does.
    name
        Name of the data in messages.

    Returns
    -------
    tuple
        Vectors ``[G, W]``, and how many genes were found, in a line.

    Raises
    ------
    FIMPError
        As :func:`read_gene_table`, or if no gene is found.
    """
    known, matrix = read_gene_table(path)
    match = match_vocabulary(genes, {gene: index for index, gene in enumerate(known)}, name=name)
    found = match.ids >= 0
    rows = matrix[match.ids[found]].astype(np.float64)
    rows -= rows.mean(0)
    spread = float(np.sqrt(np.square(rows).mean()))
    out = np.zeros((len(genes), matrix.shape[1]))
    # A linear layer starts with weights of variance 1 / (3 W), a learned table with values of deviation 0.1.
    out[found] = rows / max(spread, 1e-12) * 0.1 * 3**0.5
    return torch.from_numpy(out.astype(np.float32)), f"{path}: {match.report}"


def _from_pickle(path: Path) -> tuple[list[str], Iterable[Any]]:
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise FIMPError(f"{path}: holds a {type(content).__name__}, wanted a dict from gene to vector; convert it")
    for gene in content:
        if not isinstance(gene, str):
            raise FIMPError(f"{path}: gene {gene!r} is a {type(gene).__name__}, wanted names as text; convert it")
    return list(content), list(content.values())


def _from_npz(path: Path) -> tuple[list[str], Iterable[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    # What a damaged archive raises depends on the byte that is wrong.
    except Exception as error:
        found = " ".join(str(error).split())[:120] or type(error).__name__
        raise FIMPError(f"{path}: not readable as .npz of plain arrays ({found}); write it again") from error
    if arrays.keys() != {_GENES, _MATRIX}:
        return list(arrays), list(arrays.values())
    genes, matrix = arrays[_GENES], arrays[_MATRIX]
    if genes.ndim != 1 or genes.dtype.kind not in "US" or matrix.ndim != 2 or len(matrix) != len(genes):
        raise FIMPError(
            f"{path}: genes has shape {list(genes.shape)} and type {genes.dtype}, embeddings has shape "
            f"{list(matrix.shape)}; wanted text [G] and numbers [G, W]"
        )
    try:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in genes], list(matrix)
    except UnicodeDecodeError as error:
        raise FIMPError(f"{path}: names of genes are not UTF-8 ({error.reason}); write it again") from error


def _from_parquet(path: Path) -> tuple[list[str], Iterable[Any]]:
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise FIMPError(
            f"{path}: reading .parquet needs pyarrow; run 'pip install pyarrow', or convert to .npz"
        ) from error
    # As above.
    except Exception as error:
        found = " ".join(str(error).split())[:120] or type(error).__name__
        raise FIMPError(f"{path}: not readable as parquet ({found}); write it again") from error
    if not isinstance(table.index, pd.RangeIndex) or table.shape[1] == 0:
        genes = table.index
    else:
        genes, table = pd.Index(table.iloc[:, 0]), table.iloc[:, 1:]
    if not all(isinstance(gene, str) for gene in genes):
        raise FIMPError(f"{path}: its index and its first column are not names of genes as text; wanted one of them so")
    if table.shape[1] == 1 and table.dtypes.iloc[0].kind == "O":
        return list(genes), list(table.iloc[:, 0])
    return list(genes), list(table.to_numpy())


def _stacked(path: Path, genes: list[str], vectors: Iterable[Any]) -> NDArray[np.float32]:
    """Vectors as one matrix, each checked."""
    rows: list[NDArray[np.float32]] = []
    for gene, vector in zip(genes, vectors, strict=True):
        try:
            row = np.asarray(vector)
            if row.dtype.kind not in "fiu":
                raise ValueError(f"type {row.dtype}")
        except ValueError as error:
            raise FIMPError(
                f"{path}: the vector of gene {gene!r} is not of numbers ({error}); fetch it again"
            ) from error
        if row.ndim != 1 or not row.size or (rows and row.size != rows[0].size):
            wanted = f"[{rows[0].size}] as that of {genes[0]!r}" if rows else "one row of numbers"
            raise FIMPError(f"{path}: the vector of gene {gene!r} has shape {list(row.shape)}, wanted {wanted}")
        with np.errstate(over="ignore"):
            row = row.astype(np.float32)
        if not np.isfinite(row).all():
            raise FIMPError(
                f"{path}: the vector of gene {gene!r} has entries that are NaN or infinite; leave the gene out or "
                "fetch the file again"
            )
        rows.append(row)
    return np.stack(rows)
