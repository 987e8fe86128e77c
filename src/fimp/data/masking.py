"""Which genes of a cell become tokens, and which of their values are hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.data.disk_matrix import Values
from fimp.data.hashing import hash_uniform

#: ``epoch`` of the fixed draw that validation and test use.
EVALUATION = -1
#: Share of what a held out cell shows in evaluation that it does not show in an epoch of training.
_THINNING = 0.25
#: Rounds over which :meth:`TokenSampler.draw_pass` is averaged where fewer would cover every gene.
_FEWEST_PASSES = 5


class CellTokens(NamedTuple):
    """The drawn tokens of n cells. Hidden tokens come first in a row, then visible ones, then padding.

    Attributes
    ----------
    genes
        Gene indices, ``[n, T]`` int64, 0 where padded.
    targets
        True values (log1p scale), ``[n, T]`` float32, 0 where padded.
    values
        What a model may see, ``[n, T]`` float32: 0 where hidden or padded.
    mask
        True = real token, ``[n, T]``.
    hidden
        True = the value is masked and to be predicted, ``[n, T]``.
    depth
        How deeply a cell was sequenced, as what it shows tells it, ``[n]`` float32: the logarithm of the largest
        factor of which all shown values (before log1p) are whole multiples. All but always that is what one count of
        the cell became when counts were scaled. NaN where values are no counts, or none is shown.
    """

    genes: Tensor
    targets: Tensor
    values: Tensor
    mask: Tensor
    hidden: Tensor
    depth: Tensor

    def take(self, n: int) -> CellTokens:
        """The first n cells."""
        return CellTokens(*(part[:n] for part in self))

    def visible(self) -> CellTokens:
        """Only the tokens whose value is shown, moved together: ``[n, most visible tokens of a cell]``."""
        shown = self.mask & ~self.hidden
        width = max(1, int(shown.sum(1).max())) if len(shown) else 1
        order = (~shown).to(torch.int8).argsort(dim=1, stable=True)[:, :width]
        genes, targets, values, mask, hidden = (part.gather(1, order) for part in self[:-1])
        mask = mask & ~hidden
        return CellTokens(genes, targets, values, mask, hidden & mask, self.depth)

    def asked(self) -> CellTokens:
        """Only the leading columns in which any token is hidden: ``[n, most hidden tokens of a cell]``."""
        return self.columns(int(self.hidden.sum(1).max()) if len(self.hidden) else 0)

    def columns(self, width: int) -> CellTokens:
        """Only the leading columns: ``[n, width]``."""
        genes, targets, values, mask, hidden = (part[:, :width] for part in self[:-1])
        return CellTokens(genes, targets, values, mask, hidden, self.depth)

    def to(self, device: torch.device) -> CellTokens:
        """All parts on a device."""
        return CellTokens(*(part.to(device) for part in self))


@dataclass(frozen=True)
class Masking:
    """How tokens are drawn and hidden.

    Attributes
    ----------
    tokens
        Most tokens per cell, T.
    ratio
        Share of a cell's drawn tokens that are hidden (0.8 in appendix B.2 of the paper).
    zeros
        Share of a cell's tokens that are drawn from the genes it does not express.
    visible_total
        None to show values as they are; otherwise the total count to which the *visible* counts of a
        cell are scaled (``--normalize visible``), so that no trace of the hidden counts is shown.
    """

    tokens: int = 50
    ratio: float = 0.8
    zeros: float = 0.0
    visible_total: float | None = None


class TokenSampler:
    """Draws tokens per cell and epoch as a function of (seed, epoch, cell, gene) alone.

    Parameters
    ----------
    values
        Values of all cells ``[N, G]`` without stored zeros (log1p of normalised counts, or continuous). Of those on
        disk, the rows of the cells of a draw are read.
    masking
        How to draw.
    seed
        Seed of all draws.
    scale
        ``[N]`` factors by which counts were multiplied before log1p; needed for ``visible_total``, and for the depth.
    held_out
        True for cells of which no epoch may show what evaluation hides ``[N]``: in training, as neighbours, they show a
        random part of what they show in evaluation. None holds out none.
    """

    def __init__(
        self,
        values: Values,
        masking: Masking,
        seed: int,
        scale: NDArray[np.floating] | None = None,
        held_out: NDArray[np.bool_] | None = None,
    ) -> None:
        self.values, self.masking, self.seed, self.scale = values, masking, seed, scale
        self.held_out = np.zeros(values.shape[0], dtype=bool) if held_out is None else held_out

    @property
    def num_genes(self) -> int:
        """Size of the gene vocabulary, G."""
        return int(self.values.shape[1])

    def draw(self, cells: NDArray[np.int64], epoch: int = EVALUATION, hide: bool = True) -> CellTokens:
        """Draw the tokens of some cells.

        Parameters
        ----------
        cells
            Indices, ``[n]``.
        epoch
            Epoch, or :data:`EVALUATION` for the fixed draw.
        hide
            Hide a share of the values; False shows all of them (embedding).
        """
        masking, width = self.masking, self.masking.tokens
        epochs = np.where(self.held_out[cells], EVALUATION, epoch)
        want_zeros = zero_tokens(width, masking.zeros)
        row, gene, value, rank = self._expressed(cells, epochs, width - want_zeros)
        if want_zeros:
            extra = self._unexpressed(cells, epochs, want_zeros)
            parts = ((row, extra[0]), (gene, extra[1]), (value, np.zeros(len(extra[0]), np.float32)))
            row, gene, value = (np.concatenate(pair) for pair in parts)  # type: ignore[assignment]
            # Expressed and unexpressed genes are hidden alike: rank them together, anew.
            key = hash_uniform(self.seed, 2, epochs[row], cells[row], gene)
            row, gene, value, rank = _ranked(row, gene, value, key, len(cells))
        counts = np.bincount(row, minlength=len(cells))
        hidden_count = self._hidden_of(counts) if hide else counts * 0
        hidden = rank < hidden_count[row]
        if hide and epoch != EVALUATION and self.held_out[cells].any():
            # The same few values in every epoch would mark a place, by which a model can learn its neighbours by heart.
            again = hash_uniform(self.seed, 4, epoch, cells[row], gene) < _THINNING
            hidden |= self.held_out[cells][row] & again
            order = np.lexsort((rank, ~hidden, row))
            row, gene, value, hidden = row[order], gene[order], value[order], hidden[order]
        return self._padded(cells, row, gene, value, hidden)

    def hidden_counts(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of values of each cell that evaluation hides, and asks for, ``[n]``."""
        masking = self.masking
        want_zeros = zero_tokens(masking.tokens, masking.zeros)
        expressed = np.diff(self.values.indptr)[cells].astype(np.int64)
        drawn = np.minimum(expressed, masking.tokens - want_zeros)
        return self._hidden_of(drawn + np.minimum(self.num_genes - expressed, want_zeros))

    def _hidden_of(self, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.floor(self.masking.ratio * drawn + 0.5).astype(np.int64)

    def passes(self) -> int:
        """Number of :meth:`draw_pass` rounds in which every gene of every cell is asked for at least once."""
        expressed = np.diff(self.values.indptr)
        drawn = np.minimum(expressed, self.masking.tokens)
        asked = np.maximum(1, drawn - self._shown(drawn))
        unexpressed = self.num_genes - expressed
        return int(
            max(
                _FEWEST_PASSES,
                np.ceil(expressed / asked).max(initial=0),
                np.ceil(unexpressed / self.masking.tokens).max(initial=0),
            )
        )

    def draw_pass(self, cells: NDArray[np.int64], index: int) -> CellTokens:
        """Tokens of one of :meth:`passes` rounds that together ask for every gene of every cell.

        As in training, a share of a cell's expressed genes is shown and the others are hidden; which are
        shown moves on from round to round, so no prediction ever comes from the gene's own value. As many
        genes again are asked for that the cell does not express.

        Parameters
        ----------
        cells
            Indices, ``[n]``.
        index
            Round, from 0.
        """
        row, gene, value, rank = self._expressed(cells, np.full(len(cells), EVALUATION), self.num_genes)
        expressed = np.bincount(row, minlength=len(cells))
        drawn = np.minimum(expressed, self.masking.tokens)
        shown = self._shown(drawn)
        step = np.where(expressed > drawn, drawn - shown, shown)
        offset = (rank - index * step[row]) % np.maximum(expressed, 1)[row]
        keep = offset < drawn[row]
        hidden = offset[keep] >= shown[row[keep]]
        more_row, more_gene = self._unexpressed_window(cells, index)
        row = np.concatenate([row[keep], more_row])
        gene = np.concatenate([gene[keep], more_gene])
        value = np.concatenate([value[keep], np.zeros(len(more_row), np.float32)])
        hidden = np.concatenate([hidden, np.ones(len(more_row), bool)])
        order = np.lexsort((gene, ~hidden, row))
        row, gene, value, hidden = row[order], gene[order], value[order], hidden[order]
        return self._padded(cells, row, gene, value, hidden)

    def _shown(self, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        # At least one is hidden, whatever the ratio: a round that asks for nothing would never end.
        return drawn - np.maximum(self._hidden_of(drawn), np.minimum(drawn, 1))

    def _unexpressed_window(self, cells: NDArray[np.int64], index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        absent = np.ones((len(cells), self.num_genes), dtype=bool)
        chosen = self.values[cells]
        absent[np.repeat(np.arange(len(cells)), np.diff(chosen.indptr)), chosen.indices] = False
        place = np.cumsum(absent, axis=1) - 1
        width = self.masking.tokens
        row, gene = np.nonzero(absent & (place >= index * width) & (place < (index + 1) * width))
        return row, gene

    def _padded(
        self,
        cells: NDArray[np.int64],
        row: NDArray[np.int64],
        gene: NDArray[np.int64],
        value: NDArray[np.float32],
        hidden: NDArray[np.bool_],
    ) -> CellTokens:
        """Entries sorted by row, hidden ones first, as padded tables."""
        counts = np.bincount(row, minlength=len(cells))
        rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        seen, depth = np.where(hidden, np.float32(0), value), np.full(len(cells), np.nan, np.float32)
        if self.scale is not None:
            # An empty cell has the factor 0, and only zeros to show.
            scale = np.where(self.scale[cells] > 0, self.scale[cells], 1.0)
            count = np.where(hidden, 0.0, np.expm1(value.astype(np.float64)) / scale[row])
            if self.masking.visible_total is not None:
                # Decided cell by cell: what a cell shows must not depend on the batch it is in.
                hides = np.bincount(row, weights=hidden, minlength=len(cells)) > 0
                total = np.bincount(row, weights=count, minlength=len(cells))
                scale = np.where(hides, self.masking.visible_total / np.where(total > 0, total, 1.0), scale)
                seen = np.where(hides[row], np.log1p(count * scale[row]).astype(np.float32), seen)
            depth = _depth(row, count, scale)

        def table(entries: NDArray, dtype: type) -> Tensor:
            out = np.zeros((len(cells), max(1, counts.max(initial=0))), dtype=dtype)
            out[row, rank] = entries
            return torch.from_numpy(out)

        return CellTokens(
            table(gene, np.int64),
            table(value, np.float32),
            table(seen, np.float32),
            table(np.ones(len(row)), np.bool_),
            table(hidden, np.bool_),
            torch.from_numpy(depth),
        )

    def _expressed(
        self, cells: NDArray[np.int64], epoch: NDArray[np.int64], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Up to ``limit`` nonzero genes per cell: row, gene, value and random rank within the row."""
        chosen = self.values[cells]
        counts = np.diff(chosen.indptr).astype(np.int64)
        row, entry = np.repeat(np.arange(len(cells)), counts), np.arange(chosen.nnz)
        gene = chosen.indices.astype(np.int64)
        key = hash_uniform(self.seed, 0, epoch[row], cells[row], gene)
        # Sorting only keys that are likely small enough spares most of the work in cells of thousands of
        # genes; a cell where too few passed (all but never) is taken whole.
        bound = (limit + 8.0 * np.sqrt(limit) + 16.0) / np.maximum(counts, 1)
        keep = key < bound[row]
        short = np.bincount(row[keep], minlength=len(cells)) < np.minimum(limit, counts)
        keep |= short[row]
        row, gene, key, entry = row[keep], gene[keep], key[keep], entry[keep]
        row, gene, entry, rank = _ranked(row, gene, entry, key, len(cells))
        keep = rank < limit
        return row[keep], gene[keep], chosen.data[entry[keep]].astype(np.float32), rank[keep]

    def _unexpressed(
        self, cells: NDArray[np.int64], epoch: NDArray[np.int64], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Up to ``limit`` genes per cell that it does not express: row and gene."""
        key = hash_uniform(self.seed, 1, epoch[:, None], cells[:, None], np.arange(self.num_genes)[None, :])
        chosen = self.values[cells]
        key[np.repeat(np.arange(len(cells)), np.diff(chosen.indptr)), chosen.indices] = 2.0
        limit = min(limit, self.num_genes)
        gene = np.argpartition(key, limit - 1, axis=1)[:, :limit]
        row, column = np.nonzero(np.take_along_axis(key, gene, 1) < 1.0)
        return row, gene[row, column]


def zero_tokens(tokens: int, zeros: float) -> int:
    """How many of a cell's tokens are drawn from genes that it does not express; never all of them."""
    return min(round(tokens * zeros), tokens - 1)


def _ranked(
    row: NDArray[np.int64], gene: NDArray[np.int64], other: NDArray, key: NDArray[np.float64], num_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray, NDArray[np.int64]]:
    """Sort entries by row, then by key; the last array returned is the rank within the row."""
    order = np.lexsort((key, row))
    counts = np.bincount(row, minlength=num_rows)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return row[order], gene[order], other[order], rank


def _depth(row: NDArray[np.int64], count: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """:attr:`CellTokens.depth` of shown counts, sorted by row; a hidden count is 0."""
    out = np.full(len(scale), np.nan, np.float32)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    if len(first):
        divisor = np.gcd.reduceat(np.rint(count).astype(np.int64), first)
        rows, divisor = row[first][divisor > 0], divisor[divisor > 0]
        out[rows] = np.log(scale[rows] * divisor)
    return out
