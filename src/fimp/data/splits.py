"""Which nodes train, validate and test, and which part of a tissue is used at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

if TYPE_CHECKING:
    from fimp.data.cell_graph import CellGraph

#: Shares of nodes for training, validation and test (appendix A of the paper).
SHARES = (0.7, 0.1, 0.2)
#: Share of the nodes outside test sections that train; the others validate.
TRAIN_SHARE = 0.875
#: Fewest nodes of which 70/10/20 leaves no part empty.
FEWEST = 10
#: Fewest nodes outside test sections of which training and validation both get enough.
FEWEST_SEEN = 8
#: What the parts are called in messages.
PART_NAMES = {"train": "training", "val": "validation", "test": "test"}


class SplitOptions(Protocol):
    """Options of a task, as far as they say how nodes are split: ``random`` or ``blocks``."""

    @property
    def split(self) -> str:
        """Kind of split."""
        ...


def split_nodes(
    data: CellGraph, options: SplitOptions, seed: int, nodes: NDArray[np.int64] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Nodes of the parts ``train``, ``val`` and ``test`` of a graph of cells.

    Where sections are held out (:attr:`CellOptions.test_section`), these are the test nodes, whatever the seed.

    Parameters
    ----------
    data
        From :func:`fimp.data.load_cells`.
    options
        Options of the task.
    seed
        Seed of the split.
    nodes
        Nodes to split, ascending; all by default.

    Raises
    ------
    FIMPError
        If nodes are too few, blocks are asked for and there are no coordinates or sections are held out, or a
        part would be empty.
    """
    if nodes is None:
        nodes = np.arange(data.num_nodes)
    check_size(len(nodes), data.name)
    if data.held_out is not None:
        if options.split == "blocks":
            raise FIMPError(f"{data.name}: --split blocks and --test-section exclude each other; drop one of them")
        held_out = data.held_out.numpy()[nodes]
        if held_out.all() or not held_out.any():
            where = "only" if held_out.all() else "no"
            raise FIMPError(f"{data.name}: {where} cells of test sections have a label; choose other sections")
        if (left := int((~held_out).sum())) < FEWEST_SEEN:
            raise FIMPError(
                f"{data.name}: --test-section leaves {left} cells with a label to train and validate on, wanted at "
                f"least {FEWEST_SEEN}; label more cells, or hold out other sections"
            )
        parts = section_split(held_out, seed)
    elif options.split == "blocks":
        if data.pos is None:
            raise FIMPError(f"{data.name}: --split blocks needs coordinates; use --split random")
        parts = block_split(data.pos.numpy()[nodes], seed)
    else:
        parts = random_split(len(nodes), seed)
    return {name: nodes[part] for name, part in zip(("train", "val", "test"), parts, strict=True)}


def check_size(num_nodes: int, name: str) -> None:
    """Raise :class:`FIMPError` where a 70/10/20 split would leave a part empty."""
    if num_nodes < FEWEST:
        raise FIMPError(
            f"{name}: {num_nodes} cells are too few for a 70/10/20 split; wanted at least {FEWEST}: "
            "use a larger file or a larger --fraction"
        )


def random_split(num_nodes: int, seed: int) -> tuple[NDArray[np.int64], ...]:
    """Indices of training, validation and test nodes, ascending, 70, 10 and 20 % drawn at random (appendix A).

    Parameters
    ----------
    num_nodes
        N.
    seed
        Seed of the draw.
    """
    return _cut(np.random.default_rng([seed, 0]).permutation(num_nodes))


def section_split(held_out: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.int64], ...]:
    """Split into training and validation nodes, drawn at random 87.5 to 12.5, and the held out nodes as test.

    Parameters
    ----------
    held_out
        True for test nodes ``[N]``.
    seed
        Seed of the draw.
    """
    order = np.random.default_rng([seed, 3]).permutation(np.flatnonzero(~held_out))
    train, val = np.split(order, [round(TRAIN_SHARE * len(order))])
    return np.sort(train), np.sort(val), np.flatnonzero(held_out)


def block_split(positions: NDArray[np.floating], seed: int, blocks: int = 10) -> tuple[NDArray[np.int64], ...]:
    """Split by blocks of neighbouring nodes, so that few test nodes touch training nodes.

    Space is cut ``blocks`` times along its first and ``blocks`` times along its second axis, at quantiles;
    whole blocks are dealt out, and only the blocks at the seams of the 70/10/20 shares are divided.

    Parameters
    ----------
    positions
        Coordinates ``[N, dimensions]``.
    seed
        Seed of the order in which blocks are dealt.
    blocks
        Blocks per axis.

    Returns
    -------
    tuple of ndarray
        Indices of training, validation and test nodes, ascending.
    """
    generator, cell = np.random.default_rng([seed, 1]), spatial_blocks(positions, blocks)
    rank = generator.permutation(cell.max() + 1)
    return _cut(np.lexsort((positions[:, 0], rank[cell])))


def spatial_blocks(positions: NDArray[np.floating], blocks: int) -> NDArray[np.int64]:
    """Block of each node ``[N]``, of ``blocks`` squared; space is cut at quantiles of its first two axes.

    Parameters
    ----------
    positions
        Coordinates ``[N, dimensions]``.
    blocks
        Blocks per axis.
    """
    cell = np.zeros(len(positions), dtype=np.int64)
    for axis in range(min(2, positions.shape[1])):
        edges = np.quantile(positions[:, axis], np.linspace(0, 1, blocks + 1)[1:-1])
        cell = cell * blocks + np.searchsorted(edges, positions[:, axis], side="right")
    return cell


def crop(positions: NDArray[np.floating], fraction: float, seed: int = 0) -> NDArray[np.int64]:
    """The ``fraction`` of nodes nearest to a random one: a contiguous piece (sorted indices).

    Parameters
    ----------
    positions
        Coordinates ``[N, dimensions]``.
    fraction
        Share of nodes in (0, 1].
    seed
        Seed of the centre.
    """
    count = max(1, round(fraction * len(positions)))
    centre = positions[np.random.default_rng([seed, 2]).integers(len(positions))]
    distance = np.square(positions - centre).sum(axis=1)
    return np.sort(np.argsort(distance, kind="stable")[:count])


def _cut(order: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    first = round(SHARES[0] * len(order))
    second = round((SHARES[0] + SHARES[1]) * len(order))
    return tuple(np.sort(part) for part in np.split(order, [first, second]))
