"""Attention between genes by the types of the two cells: a table in the manner of ligand-receptor analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fimp.analysis.sums import PairSums
from fimp.analysis.token_attention import TokenAttention
from fimp.data.columns import Coded
from fimp.tasks.attention import EdgeAttention

if TYPE_CHECKING:
    import pandas as pd

#: Pairs of genes that are listed for each pair of types.
_LISTED = 50
#: Entries of all tables together, above which only some genes are kept.
_ENTRIES = 2**25


class TypePairSums(PairSums):
    """Running sums of attention by type of the receiving and of the sending cell.

    Parameters
    ----------
    types
        Type of each node.
    rows, columns
        Names of tokens.
    frequency
        How many cells each column's gene is expressed in ``[C]``: where tables would grow too large, the most frequent
        genes are kept.

    Raises
    ------
    FIMPError
        If the tables would not fit.
    """

    def __init__(self, types: Coded, rows: list[str], columns: list[str], frequency: NDArray[np.integer]) -> None:
        self.types, count = types, len(types.names)
        self.tokens = np.arange(len(columns))
        room = int((_ENTRIES / count**2) ** 0.5)
        square = rows == columns
        if square and len(columns) > room:
            self.tokens = np.sort(np.argsort(-frequency, kind="stable")[:room])
        self.columns = [columns[token] for token in self.tokens]
        self.rows = self.columns if square else rows
        self._square = square
        place = np.full(len(columns) + 1, -1)
        place[self.tokens] = np.arange(len(self.tokens))
        self._place, self._code = torch.from_numpy(place), torch.from_numpy(types.codes)
        super().__init__(count**2, len(self.rows), len(self.columns))

    def layer_of(self, edges: Tensor) -> Tensor:
        """Which table the edges ``[2, e]`` belong to, ``[e]``."""
        sender, receiver = self._code[edges[0]], self._code[edges[1]]
        known = (sender >= 0) & (receiver >= 0)
        return torch.where(known, receiver * len(self.types.names) + sender, -1)

    def add(self, part: EdgeAttention, layer: Tensor | None = None) -> None:
        """As :meth:`PairSums.add`, of those tokens that are kept."""
        receiver = self._place[part.receiver] if self._square else part.receiver
        super().add(part._replace(receiver=receiver, sender=self._place[part.sender]), layer)

    def table(self) -> pd.DataFrame:
        """The leading pairs of tokens of each pair of types, by specific attention among that pair of types.

        Returns
        -------
        DataFrame
            ``receiver_type``, ``sender_type``, and the columns of :meth:`TokenAttention.ranked`.
        """
        import pandas as pd

        names, mean, count, parts = self.types.names, self.mean, self.count, []
        for layer in range(len(mean)):
            if not count[layer].any():
                continue
            ranked = TokenAttention(mean[layer], count[layer], self.rows, self.columns).ranked()
            receiver, sender = divmod(layer, len(names))
            ranked = ranked.dropna(subset=["rank"]).head(_LISTED)
            ranked.insert(0, "receiver_type", names[receiver])
            ranked.insert(1, "sender_type", names[sender])
            parts.append(ranked)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
