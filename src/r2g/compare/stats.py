"""Intervals, permutation tests and what so many reports can show; formulas with their sources."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import norm

LEVEL = 0.95
POWER = 0.8
_CHUNK = 500  # permutations at a time: some tens of MB for thousands of reports


def interval(draws: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile bootstrap interval (Efron and Tibshirani 1993, ch. 13) of one statistic's draws.

    Draws that have no such statistic (NaN: a label that isn't in the drawn references) are left out.
    """
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws[~np.isnan(draws)], [tail, 100 - tail])
    return float(low), float(high)


def detectable(draws: np.ndarray, comparisons: int, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true difference that a two-sided test finds with this power (the minimal detectable effect).

    (z_{1 - a/2} + z_power) * SE, with the standard error of the paired difference from its bootstrap draws, and
    a = (1 - level) / comparisons: Holm's first and strictest step. For one comparison at 0.05 and power 0.8 it is
    2.80 SE (Bloom 1995, Evaluation Review 19(5); for NLP see Card et al. 2020, EMNLP, "With Little Power").
    """
    alpha = (1 - level) / max(1, comparisons)
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * np.nanstd(draws, ddof=1))


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several (Holm 1979): p_(i) * (m - i + 1), cumulated maxima, at most 1."""
    adjusted = [0.0] * len(values)
    worst = 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        worst = max(worst, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = worst
    return adjusted


def swaps(permutations: int, reports: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of 0 and 1 [some, report], `permutations` in all: which reports change sides, each with a chance of 1/2."""
    random = np.random.default_rng(seed)
    for start in range(0, permutations, _CHUNK):
        count = min(_CHUNK, permutations - start)
        yield random.integers(0, 2, (count, reports), dtype=np.int8).astype(float)


def p_value(observed: float, permuted: np.ndarray) -> float:
    """(1 + number of permuted differences at least as far from 0) / (1 + permutations): Noreen 1989, ch. 2.

    Differences that are equal but for rounding count as equal.
    """
    far = np.abs(permuted) >= abs(observed) - 1e-12 * max(1.0, abs(observed))
    return float((1 + int(far.sum())) / (1 + len(permuted)))


def pareto(costs: Sequence[float | int], values: Sequence[float]) -> list[int]:
    """Indices of the points that no other point beats: none is as cheap and as good, and better in one. By cost."""
    kept = []
    for i, (cost, value) in enumerate(zip(costs, values, strict=True)):
        others = zip(costs, values, strict=True)
        if not any(c <= cost and v >= value and (c < cost or v > value) for c, v in others):
            kept.append(i)
    return sorted(kept, key=lambda i: (costs[i], i))
