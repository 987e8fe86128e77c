"""Permutation tests of many quantities at once, and the false-discovery rate among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product
from math import comb

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

#: Numbers of a block of permuted statistics that are held at once.
_BLOCK = 2**22
#: A permuted statistic counts as equal from here on: the same sum in another order differs by rounding.
_EQUAL = 1.0 - 1e-9

Labels = NDArray[np.float64]


def two_groups(
    values: NDArray[np.float64], first: NDArray[np.bool_], permutations: int = 9999, seed: int = 0
) -> NDArray[np.float64]:
    r"""P-values of differences between the means of two groups of exchangeable units.

    The statistic is Welch's :math:`t = (\bar x_1 - \bar x_2) / \sqrt{s_1^2/n_1 + s_2^2/n_2}`; its absolute value is
    compared with those after the units' labels are permuted: all ways where there are no more of them than
    ``permutations``, else as many random ones, among which the labels as they are count as one.

    Parameters
    ----------
    values
        A number per unit and quantity ``[U, P]``; NaN where a unit says nothing of a quantity.
    first
        Which units are of the first group ``[U]``; the others are of the second.
    permutations, seed
        How many, and the seed of their draw.

    Returns
    -------
    ndarray
        ``[P]``; NaN where fewer than two units of a group say something.

    Raises
    ------
    FIMPError
        If a group has fewer than two units.
    """
    size, ones = len(first), int(first.sum())
    if min(ones, size - ones) < 2:
        raise FIMPError(f"contrast: groups have {ones} and {size - ones} exchangeable units, wanted at least 2 of each")
    seen = np.isfinite(values)
    filled = np.where(seen, values, 0.0)
    # Centred, so that the difference of squares below keeps its digits.
    filled = np.where(seen, filled - filled.sum(0) / np.maximum(seen.sum(0), 1), 0.0)
    parts = [part.astype(np.float64) for part in (seen, filled, filled**2)]
    enough = (seen[first].sum(0) >= 2) & (seen[~first].sum(0) >= 2)

    def statistic(labels: Labels) -> NDArray[np.float64]:
        sums = [(labels @ part, (1.0 - labels) @ part) for part in parts]
        moments = [(n, total / np.maximum(n, 1), square) for n, total, square in zip(*sums, strict=True)]
        difference = moments[0][1] - moments[1][1]
        spread = np.zeros_like(difference)
        for n, mean, square in moments:
            variance = np.maximum(square - n * mean**2, 0.0) / np.maximum(n - 1, 1)
            # A group that is left with one unit says nothing of its spread: any difference may be chance.
            spread += np.where(n >= 2, variance / np.maximum(n, 1), np.nan)
        return _ratio(difference, spread)

    if comb(size, ones) <= permutations:
        draws = _every_choice(size, ones)
        return _p_values(statistic, first.astype(np.float64), draws, values.shape[1], enough, exact=True)
    draws = _random_choices(first, permutations, np.random.default_rng([seed, 21]))
    return _p_values(statistic, first.astype(np.float64), draws, values.shape[1], enough, exact=False)


def paired(differences: NDArray[np.float64], permutations: int = 9999, seed: int = 0) -> NDArray[np.float64]:
    r"""P-values of mean differences within exchangeable units, by turning the signs of units.

    The statistic is :math:`t = \bar d / \sqrt{s^2 / n}`. Under the null a unit's two groups could have been called the
    other way round, so that its difference is as likely to have the opposite sign.

    Parameters
    ----------
    differences
        First group minus second in each unit ``[U, P]``; NaN where a unit does not have both.
    permutations, seed
        As for :func:`two_groups`.

    Returns
    -------
    ndarray
        ``[P]``; NaN where fewer than two units say something.

    Raises
    ------
    FIMPError
        If there are fewer than two units.
    """
    size = len(differences)
    if size < 2:
        raise FIMPError(f"contrast: {size} exchangeable units have both groups, wanted at least 2")
    seen = np.isfinite(differences)
    count, filled = np.maximum(seen.sum(0), 1), np.where(seen, differences, 0.0)
    square = (filled**2).sum(0)

    def statistic(signs: Labels) -> NDArray[np.float64]:
        mean = (signs @ filled) / count
        return _ratio(mean, np.maximum(square - count * mean**2, 0.0) / np.maximum(count - 1, 1) / count)

    enough, exact = seen.sum(0) >= 2, 2**size <= permutations
    if exact:
        draws: Iterator[Labels] = (np.array([signs]) for signs in product((1.0, -1.0), repeat=size))
    else:
        generator = np.random.default_rng([seed, 22])
        draws = (generator.choice((-1.0, 1.0), (1, size)) for _ in range(permutations))
    return _p_values(statistic, np.ones(size), draws, differences.shape[1], enough, exact)


def smallest_p(first: int, second: int, permutations: int) -> float:
    """The smallest p-value that :func:`two_groups` can give for groups of so many units."""
    ways = comb(first + second, first)
    return (2.0 if first == second else 1.0) / ways if ways <= permutations else 1.0 / (permutations + 1.0)


def smallest_paired_p(units: int, permutations: int) -> float:
    """The smallest p-value that :func:`paired` can give for so many units."""
    return 2.0 / 2**units if 2**units <= permutations else 1.0 / (permutations + 1.0)


def false_discovery(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini and Hochberg's q-values: the smallest share of false discoveries at which a test would be one.

    Parameters
    ----------
    p_values
        Of any shape; NaN where there was no test.
    """
    q_values = np.full(p_values.shape, np.nan)
    tested = np.isfinite(p_values)
    p = p_values[tested]
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty_like(p)
    found[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    q_values[tested] = np.minimum(found, 1.0)
    return q_values


def _ratio(difference: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute t: infinite where only the difference is not zero, NaN where nothing is known of the variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(difference) / np.sqrt(variance)
    return np.where((difference == 0.0) & (variance == 0.0), 0.0, t)


def _p_values(
    statistic: Callable[[Labels], NDArray[np.float64]],
    labels: Labels,
    draws: Iterator[Labels],
    tests: int,
    enough: NDArray[np.bool_],
    exact: bool,
) -> NDArray[np.float64]:
    found = statistic(labels[None])[0]
    above, total, rows = np.zeros(tests), 0, max(1, _BLOCK // max(1, tests))
    for block in _blocks(draws, rows):
        permuted = statistic(block)
        # A statistic that does not exist after a permutation is no evidence.
        above += (~(permuted < found * _EQUAL)).sum(0)
        total += len(block)
    p = above / total if exact else (above + 1.0) / (total + 1.0)
    return np.where(enough, p, np.nan)


def _blocks(draws: Iterator[Labels], rows: int) -> Iterator[Labels]:
    held: list[Labels] = []
    for draw in draws:
        held.append(draw)
        if len(held) == rows:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _every_choice(size: int, ones: int) -> Iterator[Labels]:
    for chosen in combinations(range(size), ones):
        labels = np.zeros((1, size))
        labels[0, list(chosen)] = 1.0
        yield labels


def _random_choices(first: NDArray[np.bool_], count: int, generator: np.random.Generator) -> Iterator[Labels]:
    for _ in range(count):
        yield generator.permutation(first).astype(np.float64)[None]
