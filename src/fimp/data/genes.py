"""Which genes are kept, and how the genes of one file are found in another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fimp.data.columns import listed
from fimp.data.disk_matrix import Values, column_sums, map_rows, row_blocks
from fimp.errors import FIMPError

_ENSEMBL_VERSION = re.compile(r"^(ENS[A-Z]*G\d+)\.\d+$", re.IGNORECASE)


def most_variable(values: Values, count: int, cells: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The genes whose values vary most, in the order of the columns.

    Parameters
    ----------
    values
        Values ``[N, G]``.
    count
        Number of genes wanted; all are returned where there are no more.
    cells
        The cells that decide ``[n]``; all by default.

    Returns
    -------
    ndarray
        Sorted columns. Of equal variances the first win, but genes without any value come last.
    """
    number, genes = values.shape[0] if cells is None else len(cells), values.shape[1]
    if genes <= count:
        return np.arange(genes)
    expressed = column_sums(values, cells, counts=True)
    mean = column_sums(values, cells) / number
    # In two passes: the difference of two sums would lose small variances of large values.
    spread = np.zeros(genes)
    for _, block in row_blocks(values, cells):
        off = block.data.astype(np.float64) - mean[block.indices]
        spread += np.bincount(block.indices, weights=off**2, minlength=genes)
    variance = (spread + (number - expressed) * mean**2) / number
    order = np.lexsort((expressed == 0, -variance))
    return np.sort(order[:count])


def shared_genes(genes: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Genes that all files have, in the order of the first, and notes.

    Raises
    ------
    FIMPError
        If two files leave fewer than two genes.
    """
    shared = list(genes[0])
    for own, name in zip(genes[1:], names[1:], strict=True):
        before, present = shared, set(own)
        shared = [gene for gene in before if gene in present]
        if len(shared) < 2:
            raise FIMPError(
                f"{names[0]} and {name}: {len(shared)} genes are in both (first names: {listed(genes[0], 3)}; "
                f"{listed(own, 3)}), wanted at least 2; give the genes of both the same kind of name"
            )
    sizes = [len(own) for own in genes]
    if len(shared) == max(sizes):
        return shared, []
    return shared, [f"kept the {len(shared):,} genes that all {len(genes)} files have, of {listed(sizes)}"]


def match_genes(have: Sequence[str], wanted: Sequence[str], name: str) -> tuple[NDArray[np.int64], list[str]]:
    """Find a trained model's genes in a file.

    Names are compared as they are. Where fewer than half are found, the others are compared without regard to
    case and to the version of an Ensembl id (``ENSG00000141510.11``), as far as that is unambiguous.

    Parameters
    ----------
    have
        Genes of the file.
    wanted
        Genes of the model.
    name
        Name of the file in messages.

    Returns
    -------
    tuple
        The column of each wanted gene ``[len(wanted)]``, -1 where there is none, and notes.

    Raises
    ------
    FIMPError
        If no gene is found.
    """
    column = {gene: index for index, gene in enumerate(have)}
    found = np.array([column.get(gene, -1) for gene in wanted], dtype=np.int64)
    notes = []
    if 2 * (found >= 0).sum() < len(wanted):
        like = _alike(have, wanted, found)
        if like:
            found[list(like)] = list(like.values())
            index, match = next(iter(like.items()))
            notes.append(
                f"genes: matched {len(like):,} names without regard to case or Ensembl version "
                f"({have[match]} as {wanted[index]}, for instance)"
            )
    missing = [gene for gene, index in zip(wanted, found, strict=True) if index < 0]
    if len(missing) == len(wanted):
        raise FIMPError(
            f"{name}: has none of the {len(wanted):,} genes that the model was trained on (first: {listed(wanted, 3)}; "
            f"here: {listed(have, 3)}); rename its genes to the same kind of name"
        )
    if missing:
        notes.append(
            f"genes: {len(missing):,} of the model's {len(wanted):,} are not in the file and taken as not "
            f"expressed ({listed(missing, 5)})"
        )
    if extra := len(have) - (len(wanted) - len(missing)):
        notes.append(f"genes: {extra:,} that the model does not know are dropped")
    return found, notes


def take_genes(values: Values, columns: NDArray[np.int64]) -> Values:
    """Columns of a matrix, ``[N, len(columns)]``, where the values are; zeros for column -1."""
    wanted = np.where(columns < 0, values.shape[1], columns)

    def take(rows: sparse.csr_matrix, _: slice) -> sparse.csr_matrix:
        if (columns < 0).any():
            rows = sparse.hstack([rows, sparse.csr_matrix((rows.shape[0], 1), dtype=rows.dtype)], format="csr")
        taken = rows[:, wanted].tocsr()
        taken.sort_indices()
        return taken

    return map_rows(values, take, len(columns))


def _alike(have: Sequence[str], wanted: Sequence[str], found: NDArray[np.int64]) -> dict[int, int]:
    """Index of a wanted gene to index of the only other gene that is called alike."""
    taken = set(found.tolist())
    free = [(index, plain_name(gene)) for index, gene in enumerate(have) if index not in taken]
    lost = [(index, plain_name(gene)) for index, gene in enumerate(wanted) if found[index] < 0]
    once = Counter(plain for _, plain in free), Counter(plain for _, plain in lost)
    column = {plain: index for index, plain in free if once[0][plain] == 1}
    return {index: column[plain] for index, plain in lost if once[1][plain] == 1 and plain in column}


def plain_name(gene: str) -> str:
    """A gene's name in capitals, and an Ensembl id without its version."""
    return _ENSEMBL_VERSION.sub(r"\1", gene).upper()
