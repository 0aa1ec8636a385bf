"""A search that stops losing arms early: synchronous successive halving (arXiv 1502.07943) inside a gang."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from r2g.core.checks import Checks, above_zero, at_least
from r2g.step import Arm

# In Progress.extra: rungs passed, the scores of the last validation, and why the arm left.
_RUNG, _VAL, _LEFT = "rung", "val", "left"


class Halved(RuntimeError):
    """The arm left the search; it can be taken up again from its checkpoint, without halving."""


@dataclass(frozen=True)
class Halving:
    """After each of the validations named in `rungs` (1 is the first), one arm in `eta` goes on, but at least `keep`.

    `metric` is a validation score, or `select` for the run's own selection; more is better, of `loss` less.
    All arms are validated at a rung before any goes on.
    """

    eta: float
    metric: str
    rungs: tuple[int, ...]
    keep: int

    def __post_init__(self) -> None:
        check = Checks(self).each(("eta",), lambda eta: eta > 1, "must be above 1")
        check.each(("keep",), at_least(1), "must be at least 1")
        rising = "rungs must rise and start at 1 or later, got {0}"
        check.joint(("rungs",), lambda r: r and above_zero(r[0]) and list(r) == sorted(set(r)), rising)
        check.done()

    def going(self, arms: Sequence[Arm]) -> list[Arm]:
        """Those that need not wait for others at a rung."""
        return [arm for arm in arms if not self._waits(arm)]

    def cut(self, arms: Sequence[Arm]) -> list[Arm]:
        """Once all wait at a rung: let the best pass, give the others, each with its error. Nobody until then."""
        if not arms or not all(self._waits(arm) for arm in arms):
            return []
        first = min(_passed(arm) for arm in arms)
        here = [arm for arm in arms if _passed(arm) == first]
        ranked = sorted(here, key=self._worth, reverse=True)
        stay = max(self.keep, math.ceil(len(here) / self.eta))
        for arm in ranked[:stay]:
            arm.progress.extra[_RUNG] = first + 1
        for place, arm in enumerate(ranked[stay:], stay + 1):
            worth = f"by {self.metric} ({self._value(arm):.4g})"
            arm.progress.extra[_LEFT] = (
                f"number {place} of {len(here)} {worth} after {arm.progress.step} steps"
            )
            arm.error = Halved(arm.progress.extra[_LEFT])
        return ranked[stay:]

    def _waits(self, arm: Arm) -> bool:
        rung = _passed(arm)
        steps = sorted(arm.plan.evals)
        if rung >= len(self.rungs) or self.rungs[rung] >= len(steps):  # the last validation is the end
            return False
        return arm.progress.step >= steps[self.rungs[rung] - 1]

    def _value(self, arm: Arm) -> float:
        scores = arm.progress.extra[_VAL]
        if self.metric not in scores:
            raise ValueError(f"halving.metric is {self.metric}; validation gives {', '.join(scores)}")
        return float(scores[self.metric])

    def _worth(self, arm: Arm) -> float:
        value = -self._value(arm) if self.metric == "loss" else self._value(arm)
        return -math.inf if math.isnan(value) else value


def recall(arm: Arm, search: bool) -> None:
    """An arm that left a search stays out of it, and goes on where there is none."""
    if search and _LEFT in arm.progress.extra:
        arm.error = Halved(arm.progress.extra[_LEFT])
    arm.progress.extra.pop(_LEFT, None)


def note(arm: Arm, scores: dict[str, float]) -> None:
    """Keep the last validation's scores, but for single labels', with the arm's progress."""
    arm.progress.extra[_VAL] = {name: score for name, score in scores.items() if "/" not in name}


def _passed(arm: Arm) -> int:
    return int(arm.progress.extra.get(_RUNG, 0))
