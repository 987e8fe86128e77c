"""What cross-node attention looks at: from edges to pairs of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from fimp.analysis.stream import EdgeChoice, stream
from fimp.analysis.sums import PairSums
from fimp.analysis.token_attention import TokenAttention
from fimp.analysis.token_names import TokenNames, token_names
from fimp.errors import FIMPError

if TYPE_CHECKING:
    from fimp.estimators import ExpressionModel, GraphModel

#: Draws of visible and hidden genes over which attention between cells is averaged.
DRAWS = 5


class Ledger(NamedTuple):
    """Sums that are kept apart by something about edges.

    Attributes
    ----------
    sums
        The sums.
    layer_of
        Says which of their tables edges ``[2, e]`` between nodes of the whole graph belong to ``[e]``, -1 for none.
    """

    sums: PairSums
    layer_of: Callable[[Tensor], Tensor]


def collect(
    model: GraphModel,
    task: Any,
    names: TokenNames,
    choice: EdgeChoice = EdgeChoice(),
    draws: int = DRAWS,
    layer: int | None = None,
    ledgers: Sequence[Ledger] = (),
) -> TokenAttention:
    """Average attention over all chosen edges, and fill ledgers on the way.

    Nodes are streamed and only sums are kept, so memory does not grow with the number of edges.

    Parameters
    ----------
    model, task, choice, draws, layer
        As for :func:`fimp.analysis.stream.stream`.
    names
        Rows and columns.
    ledgers
        Further sums.

    Raises
    ------
    FIMPError
        If the model has no cross-node attention, or there is no such edge.
    """
    sums = PairSums(1, len(names.rows), len(names.columns))
    found = 0
    for part in stream(model, task, choice, draws, layer):
        part = names.sort(part)
        found += part.edges.size(1)
        sums.add(part)
        for ledger in ledgers:
            ledger.sums.add(part, ledger.layer_of(part.edges))
    if not found:
        raise FIMPError(f"attention: {task.data.name} has no edges of this choice; choose others with --edges")
    return TokenAttention(sums.mean[0], sums.count[0], names.rows, names.columns, names.what)


def token_attention(
    model: GraphModel,
    choice: EdgeChoice = EdgeChoice(),
    draws: int = DRAWS,
    layer: int | None = None,
    groups: dict[str, str] | None = None,
) -> TokenAttention:
    """Average a trained model's cross-node attention over edges, token by token.

    Rows and columns are genes for expression, regions or networks for recordings, and patches for images; a model that
    classifies nodes from scratch asks one question, and its rows are the classes that it answers.

    Parameters
    ----------
    model
        A trained model, or an untrained one.
    choice
        Which edges.
    draws
        Draws of visible and hidden genes of cells.
    layer
        Which layer of a foundation model; the mean over all by default.
    groups
        The network of each region of recordings, by name.

    Raises
    ------
    FIMPError
        If the model has no cross-node attention, or there is no such edge.
    """
    task = model.task_on(None)
    return collect(model, task, token_names(model, task, groups), choice, draws, layer)


def gene_attention(model: ExpressionModel, draws: int = DRAWS) -> TokenAttention:
    """Average an expression model's attention over all edges between cells, gene by gene.

    Rows are hidden genes of the receiving cell, columns visible genes of the sending one.

    Parameters
    ----------
    model
        An expression model whose network has cross-node attention.
    draws
        Number of draws of visible and hidden genes.

    Raises
    ------
    FIMPError
        If the model has no cross-node attention.
    """
    return token_attention(model, draws=draws)
