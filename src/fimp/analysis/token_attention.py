"""Attention between tokens, aggregated over edges: a table, what of it is specific to a pair, and how pairs rank."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fimp.errors import FIMPError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TokenAttention:
    """Mean attention between tokens of connected nodes.

    Attributes
    ----------
    mean
        ``[R, C]``: attention that the row's token of a receiving node pays to the column's token of a sending node,
        averaged over edges where both are there; NaN where there was no such edge. From 0 to 1.
    count
        ``[R, C]``: number of such edges.
    rows, columns
        Names of the receivers' tokens (or classes, regions, networks) and of the senders'.
    what
        What a number of ``mean`` is, in words.
    """

    mean: NDArray[np.float64]
    count: NDArray[np.int64]
    rows: list[str]
    columns: list[str]
    what: str = "attention"

    @property
    def same(self) -> NDArray[np.bool_]:
        """Where the row's token is the column's, ``[R, C]``; nowhere unless rows and columns are the same tokens."""
        found = np.zeros(self.mean.shape, dtype=bool)
        if self.rows == self.columns:
            np.fill_diagonal(found, True)
        return found

    def specific(self) -> NDArray[np.float64]:
        """Attention beyond what its two tokens explain on their own, ``[R, C]``.

        Some genes are looked at by everyone, and some look at everyone. This is what is left of the mean
        attention after the mean of its row and of its column (other tokens only) are taken away: the interaction
        of a two-way analysis of variance. 0 means no more than expected.
        """
        other = np.where(self.same, np.nan, self.mean)
        with warnings.catch_warnings():
            # A token that was never hidden or never visible has no mean, and gets none.
            warnings.filterwarnings("ignore", message="Mean of empty slice")
            rows, columns = np.nanmean(other, axis=1, keepdims=True), np.nanmean(other, axis=0, keepdims=True)
            return self.mean - rows - columns + np.nanmean(other)

    def pair_scores(self, receivers: ArrayLike, senders: ArrayLike) -> NDArray[np.float64]:
        """Specific attention of pairs given by name, ``[pairs]``.

        Raises
        ------
        FIMPError
            If a name is unknown.
        """
        return self.specific()[self._places(receivers, self.rows), self._places(senders, self.columns)]

    def auroc(self, receivers: ArrayLike, senders: ArrayLike) -> float:
        """Chance that a given pair ranks above a random other pair of two tokens.

        Parameters
        ----------
        receivers, senders
            Names of the receiving node's token and of the sending node's token of each pair.
        """
        from sklearn.metrics import roc_auc_score

        score, positive = self.specific(), self._given(receivers, senders)
        valid = np.isfinite(score) & ~self.same
        return float(roc_auc_score(positive[valid], score[valid]))

    def precision_at(self, k: int, receivers: ArrayLike, senders: ArrayLike) -> float:
        """Share of given pairs among the ``k`` pairs of two tokens that lead the ranked list."""
        first, second = np.unravel_index(self.order()[:k], self.mean.shape)
        return float(self._given(receivers, senders)[first, second].mean())

    def order(self) -> NDArray[np.int64]:
        """Pairs of two tokens by specific attention, the largest first, as places in the flattened table.

        A table of one row or column is its own mean, and nothing in it specific: there it is by attention.
        """
        seen = np.isfinite(self.mean)
        alone = min(seen.any(0).sum(), seen.any(1).sum()) < 2
        score = np.where(self.same, np.nan, self.mean if alone else self.specific()).ravel()
        order = np.argsort(-score, kind="stable")
        return order[np.isfinite(score[order])]

    def ranked(self) -> pd.DataFrame:
        """All pairs that were seen, ranked by specific attention.

        Returns
        -------
        DataFrame
            Columns ``receiver``, ``sender``, ``attention``, ``specific``, ``count`` and ``rank``, from 1; pairs of a
            token with itself come last, by attention, and have no rank.
        """
        import pandas as pd

        order, mean = self.order(), self.mean.ravel()
        alike = np.flatnonzero(self.same.ravel() & np.isfinite(mean))
        alike = alike[np.argsort(-mean[alike], kind="stable")]
        places = np.concatenate([order, alike])
        row, column = np.unravel_index(places, self.mean.shape)
        rank = pd.array([*range(1, len(order) + 1), *[None] * len(alike)], dtype="Int64")
        return pd.DataFrame(
            {
                "receiver": np.array(self.rows, dtype=object)[row],
                "sender": np.array(self.columns, dtype=object)[column],
                "attention": mean[places],
                "specific": np.where(self.same.ravel()[places], np.nan, self.specific().ravel()[places]),
                "count": self.count.ravel()[places],
                "rank": rank,
            }
        )

    def _given(self, receivers: ArrayLike, senders: ArrayLike) -> NDArray[np.bool_]:
        given = np.zeros(self.mean.shape, dtype=bool)
        given[self._places(receivers, self.rows), self._places(senders, self.columns)] = True
        return given

    @staticmethod
    def _places(names: ArrayLike, known: list[str]) -> list[int]:
        place = {name: index for index, name in enumerate(known)}
        unknown = [str(name) for name in np.asarray(names) if str(name) not in place]
        if unknown:
            raise FIMPError(f"attention: no token is named {unknown[0]!r}; names are {', '.join(known[:5])} ...")
        return [place[str(name)] for name in np.asarray(names)]
