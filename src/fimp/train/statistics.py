"""Is a difference between two models more than noise? Tests that hold with few seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fimp.tasks.base import Task

#: Resamples of the test nodes behind an interval.
DRAWS = 1000
#: Significance below which a difference counts, and coverage of intervals.
ALPHA = 0.05
#: Test nodes below which resamples of them say nothing.
FEWEST = 10
_BLOCK = 2**23


def corrected_t_test(differences: Sequence[float], test_share: float) -> float | None:
    """Two-sided p-value of the corrected resampled t-test (Nadeau and Bengio 2003, Machine Learning 52).

    Splits of the same data overlap, so the plain paired t-test finds differences that are not there. The variance
    of the mean is taken as ``(1 / n + n_test / n_train) s**2`` instead of ``s**2 / n``.

    Parameters
    ----------
    differences
        One difference per seed.
    test_share
        Test nodes per training node.

    Returns
    -------
    float or None
        None where there are fewer than two seeds, a difference is not a number, or all are the same: scores of few
        nodes tie by chance, and a spread of nothing is no measure of noise.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    if not values.any():
        return 1.0
    spread = values.std(ddof=1)
    # Differences that are the same come out of a subtraction a little apart.
    if spread <= 1e-9 * np.abs(values).max():
        return None
    t = values.mean() / (spread * np.sqrt(1.0 / len(values) + test_share))
    return float(2.0 * stats.t.sf(abs(t), len(values) - 1))


def bootstrap(
    task: Task,
    statistics: dict[str, NDArray[np.float64]],
    units: NDArray[np.int64],
    everything: NDArray[np.int64] | None = None,
    draws: int = DRAWS,
) -> dict[str, NDArray[np.float64]]:
    """The monitored metric of several models on the same resamples of the test nodes.

    Parameters
    ----------
    task
        Knows the metric.
    statistics
        Each model's :meth:`~fimp.tasks.Task.node_statistics`, of the same nodes.
    units
        Which nodes these are, ascending: :meth:`~fimp.tasks.Task.units`.
    everything
        The nodes that are resampled, ascending, where other seeds test others: a node that several seeds test counts
        as often in each of them, since it is one node and no new evidence. ``units`` by default.
    draws
        Number of resamples.

    Returns
    -------
    dict
        ``[draws]`` per model; NaN where a resample has no such metric, or where there are fewer than
        :data:`FEWEST` nodes.
    """
    if len(units) < FEWEST:
        return {name: np.full(draws, np.nan) for name in statistics}
    everything = units if everything is None else everything
    place, count = np.searchsorted(everything, units), len(everything)
    # The same resamples, whatever the seed of a run.
    generator = np.random.default_rng(17)
    block = max(1, _BLOCK // count)
    out: dict[str, list[NDArray[np.float64]]] = {name: [] for name in statistics}
    for start in range(0, draws, block):
        size = min(block, draws - start)
        weights = generator.multinomial(count, np.full(count, 1.0 / count), size=size)[:, place].astype(np.float64)
        for name, values in statistics.items():
            with np.errstate(invalid="ignore", divide="ignore"):
                out[name].append(task.resampled(values, weights))
    return {name: np.concatenate(parts) for name, parts in out.items()}


def interval(draws: NDArray[np.float64]) -> list[float] | None:
    """Percentile interval of resampled values; None where there are none."""
    draws = draws[np.isfinite(draws)]
    if len(draws) == 0:
        return None
    return [float(np.quantile(draws, q)) for q in (ALPHA / 2, 1 - ALPHA / 2)]


def best_baseline(runs: list[dict[str, Any]], baselines: Sequence[str], metric: str, mode: str) -> str | None:
    """The baseline with the best mean of a metric, over the seeds that all of them have; None where there is none."""
    sign = 1.0 if mode == "max" else -1.0
    scores: dict[str, dict[int, float]] = {}
    for run in runs:
        if run["model"] in baselines:
            scores.setdefault(run["model"], {})[run["seed"]] = sign * _number(run["metrics"][metric])
    shared = set.intersection(*(set(seeds) for seeds in scores.values())) if scores else set()
    means = {name: float(np.mean([own[seed] for seed in sorted(shared)])) for name, own in scores.items() if shared}
    finite = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    return max(finite, key=finite.__getitem__) if finite else None


def compare_to(
    baseline: str,
    runs: list[dict[str, Any]],
    metrics: dict[str, str],
    monitor: str,
    resamples: dict[tuple[str, int], NDArray[np.float64]],
    test_share: float,
) -> list[dict[str, Any]]:
    """Differences of every model to a baseline, metric by metric.

    Parameters
    ----------
    baseline
        Name of the model compared with.
    runs
        ``runs`` of ``results.json``.
    metrics
        Metric names and whether ``"max"`` or ``"min"`` is better.
    monitor
        The metric that has resamples.
    resamples
        Per model and seed, ``[draws]`` of the monitored metric.
    test_share
        Test nodes per training node.

    Returns
    -------
    list of dict
        ``model``, ``baseline``, ``metric``, ``mean_difference`` (model minus baseline), ``p_value`` (None as in
        :func:`corrected_t_test`), ``n_seeds``, ``interval`` (over test nodes; None for metrics that are not monitored
        and few nodes) and
        ``verdict``: ``better``, ``worse`` or ``within noise``.
    """
    value = {(run["model"], run["seed"]): run["metrics"] for run in runs}
    out = []
    for model in dict.fromkeys(run["model"] for run in runs):
        seeds = [seed for name, seed in value if name == model and (baseline, seed) in value]
        if model == baseline or not seeds:
            continue
        for metric, mode in metrics.items():
            differences = [_number(value[model, s][metric]) - _number(value[baseline, s][metric]) for s in seeds]
            p_value, bounds = corrected_t_test(differences, test_share), None
            pairs = [(resamples.get((model, s)), resamples.get((baseline, s))) for s in seeds]
            if metric == monitor and all(ours is not None and theirs is not None for ours, theirs in pairs):
                bounds = interval(np.mean([ours - theirs for ours, theirs in pairs], axis=0))  # type: ignore[operator]
            mean = float(np.mean(differences))
            out.append(
                {
                    "model": model,
                    "baseline": baseline,
                    "metric": metric,
                    "mean_difference": mean,
                    "p_value": p_value,
                    "n_seeds": len(seeds),
                    "interval": bounds,
                    "verdict": _verdict(mean, mode, p_value, bounds),
                }
            )
    return out


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _verdict(mean: float, mode: str, p_value: float | None, bounds: list[float] | None) -> str:
    """Noise between seeds and noise between test nodes must both be exceeded, as far as they are known."""
    known = p_value is not None or bounds is not None
    if not known or not np.isfinite(mean):
        return "within noise"
    if p_value is not None and p_value >= ALPHA:
        return "within noise"
    if bounds is not None and bounds[0] <= 0.0 <= bounds[1]:
        return "within noise"
    return "better" if (mean > 0) == (mode == "max") else "worse"
