"""What cross-node attention looks at: from edges to pairs of genes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from fimp.estimators import ExpressionModel


@dataclass(frozen=True)
class GeneAttention:
    """Mean attention between genes of neighbouring cells.

    Attributes
    ----------
    mean
        ``[G, G]``: attention that the token of the row's gene pays to the token of the column's gene in a
        neighbour, averaged over edges where the row's gene is hidden and the column's gene is visible,
        over layers and heads; NaN where there was no such edge.
    count
        ``[G, G]``: number of such edges.
    gene_names
        Names of rows and columns.
    """

    mean: NDArray[np.float64]
    count: NDArray[np.int64]
    gene_names: list[str]

    def specific(self) -> NDArray[np.float64]:
        """Attention beyond what its two genes explain on their own, ``[G, G]``.

        Some genes are looked at by everyone, and some look at everyone. This is what is left of the mean
        attention after the mean of its row and of its column (other genes only) are taken away: the interaction
        of a two-way analysis of variance. 0 means no more than expected.
        """
        other = np.where(np.eye(len(self.mean), dtype=bool), np.nan, self.mean)
        with warnings.catch_warnings():
            # A gene that was never hidden or never visible has no mean, and gets none.
            warnings.filterwarnings("ignore", message="Mean of empty slice")
            rows, columns = np.nanmean(other, axis=1, keepdims=True), np.nanmean(other, axis=0, keepdims=True)
            return self.mean - rows - columns + np.nanmean(other)

    def pair_scores(self, receivers: ArrayLike, senders: ArrayLike) -> NDArray[np.float64]:
        """Specific attention of pairs given by name, ``[pairs]``."""
        place = {gene: index for index, gene in enumerate(self.gene_names)}
        rows = [place[str(gene)] for gene in np.asarray(receivers)]
        columns = [place[str(gene)] for gene in np.asarray(senders)]
        return self.specific()[rows, columns]

    def auroc(self, receivers: ArrayLike, senders: ArrayLike) -> float:
        """Chance that a given pair ranks above a random other pair of two genes.

        Parameters
        ----------
        receivers, senders
            Names of the receiving cell's gene and of the sending cell's gene of each pair.
        """
        from sklearn.metrics import roc_auc_score

        score = self.specific()
        place = {gene: index for index, gene in enumerate(self.gene_names)}
        positive = np.zeros_like(score, dtype=bool)
        for receiver, sender in zip(np.asarray(receivers), np.asarray(senders), strict=True):
            positive[place[str(receiver)], place[str(sender)]] = True
        valid = np.isfinite(score) & ~np.eye(len(score), dtype=bool)
        return float(roc_auc_score(positive[valid], score[valid]))


@torch.no_grad()
def gene_attention(model: ExpressionModel, draws: int = 5) -> GeneAttention:
    """Average a trained model's cross-node attention over all edges, gene by gene.

    Cells are streamed and only sums are kept, so memory does not grow with the number of edges.

    Parameters
    ----------
    model
        An expression model whose network is FIMP.
    draws
        Number of draws of visible and hidden genes.

    Raises
    ------
    FIMPError
        If the model has no cross-node attention.
    """
    network = model.network
    if network.input != "tokens":
        raise FIMPError(f"gene_attention: {model.config.model!r} has no cross-node attention; use fimp-base")
    genes = len(model.data.gene_names)
    total, count = torch.zeros(genes * genes, dtype=torch.float64), torch.zeros(genes * genes, dtype=torch.int64)
    for draw in range(draws):
        for _, graph in model._subgraphs(model.task):
            tokens = model.task.sampler.draw(graph.nodes, draw)
            for attention, receiver, sender in network.attention(tokens, graph):
                pair = (receiver[:, :, None] * genes + sender[:, None, :]).flatten()
                valid = ((receiver >= 0)[:, :, None] & (sender >= 0)[:, None, :]).flatten()
                total.index_add_(0, pair[valid], attention.double().flatten()[valid])
                count.index_add_(0, pair[valid], torch.ones_like(pair[valid]))
    mean = (total / count).view(genes, genes).numpy()
    return GeneAttention(mean, count.view(genes, genes).numpy(), list(model.data.gene_names))
