"""How fast a run learned: figures read off its loss curve, with their formulas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2g.core import keys


@dataclass(frozen=True)
class Curve:
    """A run's loss at points of training; all sequences are of one length and `steps` rises strictly."""

    steps: Sequence[int]
    samples: Sequence[int]
    tokens: Sequence[int]
    seconds: Sequence[float]
    loss: Sequence[float]

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.steps, self.samples, self.tokens, self.seconds, self.loss)}
        if len(lengths) > 1 or not self.loss:
            raise ValueError(
                f"a curve needs as many of each, and one entry at least; lengths: {sorted(lengths)}"
            )
        if any(b <= a for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError("a curve's steps must rise strictly")


@dataclass(frozen=True)
class Convergence:
    """The figures of one curve; None where there is none, which `censored` tells apart for the target."""

    target: float | None
    censored: bool | None
    steps_to_target: int | None
    samples_to_target: int | None
    tokens_to_target: int | None
    seconds_to_target: float | None
    area: float | None
    plateau_step: int | None
    best_step: int | None
    smoothed: tuple[float, ...]

    def summary(self) -> dict[str, float | int | bool | None]:
        """The figures under their stable names (`r2g.core.keys`), without the smoothed curve."""
        return {
            keys.TARGET: self.target,
            keys.CENSORED: self.censored,
            keys.STEPS_TO_TARGET: self.steps_to_target,
            keys.SAMPLES_TO_TARGET: self.samples_to_target,
            keys.TOKENS_TO_TARGET: self.tokens_to_target,
            keys.SECONDS_TO_TARGET: self.seconds_to_target,
            keys.AREA: self.area,
            keys.PLATEAU_STEP: self.plateau_step,
            keys.BEST_STEP: self.best_step,
        }


def converge(
    curve: Curve,
    target: float | None = None,
    validation: Sequence[tuple[int, float]] = (),
    *,
    window: int = 10,
    hold: int = 3,
    slope: float = 0.01,
) -> Convergence:
    """Read the figures off a curve with losses l_i at steps x_i (i = 0 .. n).

    * smoothed: s_i = mean(l_j for j = max(0, i - window + 1) .. i), so nothing looks ahead.
    * to target: the first i with s_i, ..., s_{i + hold - 1} <= target, all of them in the curve. A run with
      no such i is censored: it would have taken longer than it lasted.
    * area: sum over i of (x_{i+1} - x_i)(l_i + l_{i+1}) / 2, over (x_n - x_0); l_0 if there is one entry, and
      None if a loss is not finite. It depends on the length: compare runs of as many steps.
    * plateau: the fall f_i = (s_{i-window} - s_i) / s_{i-window} * 100 / (x_i - x_{i-window}) is relative and
      per 100 steps; it starts at the first i >= window with f_j < slope for all j >= i, `hold` at least.
    * best: the step of the largest of `validation` (pairs of step and value, larger is better), the first if
      several are equal.

    Raises ValueError for window, hold or slope out of range.
    """
    if window < 1 or hold < 1 or slope <= 0:
        raise ValueError(f"window and hold must be at least 1 and slope above 0: {window}, {hold}, {slope}")
    smoothed = _smooth(curve.loss, window)
    at = None if target is None else _first_run([s <= target for s in smoothed], hold)
    plateau = _plateau(curve.steps, smoothed, window, hold, slope)
    best = max(validation, key=lambda entry: (entry[1], -entry[0]), default=None)
    return Convergence(
        target=target,
        censored=None if target is None else at is None,
        steps_to_target=None if at is None else curve.steps[at],
        samples_to_target=None if at is None else curve.samples[at],
        tokens_to_target=None if at is None else curve.tokens[at],
        seconds_to_target=None if at is None else curve.seconds[at],
        area=_area(curve.steps, curve.loss),
        plateau_step=None if plateau is None else curve.steps[plateau],
        best_step=None if best is None else best[0],
        smoothed=tuple(smoothed),
    )


def _smooth(loss: Sequence[float], window: int) -> list[float]:
    # Sums of slices, not differences of cumulated sums: one infinite loss must not spoil all that follows.
    return [float(np.mean(loss[max(0, i - window + 1) : i + 1])) for i in range(len(loss))]


def _first_run(hits: Sequence[bool], hold: int) -> int | None:
    """The first index from which on `hold` hits follow each other."""
    length = 0
    for i, hit in enumerate(hits):
        length = length + 1 if hit else 0
        if length == hold:
            return i - hold + 1
    return None


def _area(steps: Sequence[int], loss: Sequence[float]) -> float | None:
    if not np.isfinite(loss).all():
        return None
    if len(loss) == 1:
        return float(loss[0])
    x, y = np.asarray(steps, dtype=float), np.asarray(loss, dtype=float)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (x[-1] - x[0]))


def _plateau(
    steps: Sequence[int], smoothed: Sequence[float], window: int, hold: int, slope: float
) -> int | None:
    start = len(smoothed)
    for i in range(len(smoothed) - 1, window - 1, -1):
        before, now = smoothed[i - window], smoothed[i]
        if before <= 0 or not math.isfinite(before + now):
            break
        if (before - now) / before * 100 / (steps[i] - steps[i - window]) >= slope:
            break
        start = i
    return start if len(smoothed) - start >= hold else None
