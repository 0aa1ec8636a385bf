"""A search that stops losing arms early: synchronous successive halving (arXiv 1502.07943) inside a gang."""

import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2g import record
from r2g.config.resolve import to_tree
from r2g.core import keys
from r2g.core.checks import Checks, above_zero, at_least
from r2g.step import Arm

_LOG = logging.getLogger(__name__)
# In Progress.extra: rungs passed, the scores of the last validation, and why the arm left.
_RUNG, _VAL, _LEFT = "rung", "val", "left"
_CURVE = keys.val("")


class Halved(RuntimeError):
    """The arm left the search; it can be taken up again from its checkpoint, without halving."""


@dataclass(frozen=True)
class Halving:
    """After each of the validations named in `rungs` (1 is the first), one arm in `eta` goes on, but at least `keep`.

    `metric` is a validation score, or `select` for the run's own selection; more is better, of `loss` less. An arm's
    is the mean over its seeds in the gang, which go on or leave together. All arms are validated at a rung before any
    goes on.
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

    def going(self, runs: Sequence[Arm]) -> list[Arm]:
        """Those that need not wait for others at a rung."""
        return [run for run in runs if not self._waits(run)]

    def cut(self, runs: Sequence[Arm]) -> list[Arm]:
        """Once all that train wait at a rung: let the best arms pass, give the runs of the others each its error.

        Until then nobody leaves. Ranked is by the scores at that rung, however far a run came since. Arms that passed
        it before are ranked again, so that one that comes late has to be as good, but they stay.
        """
        live = [run for run in runs if run.trains]
        if not live or not all(self._waits(run) for run in live):
            return []
        rung = min(_passed(run) for run in live)
        arms = sorted(self._arms(runs, rung), key=lambda arm: self._worth(arm, rung), reverse=True)
        stay = max(self.keep, math.ceil(len(arms) / self.eta))
        left = []
        for place, arm in enumerate(arms, 1):
            passes = place <= stay or any(_passed(run) > rung for run in arm if run.error is None)
            for run in [run for run in arm if run.trains and _passed(run) == rung]:
                if passes:
                    run.progress.extra[_RUNG] = rung + 1
                else:
                    told = f"number {place} of {len(arms)} by {self._told(arm, rung)}"
                    run.progress.extra[_LEFT] = f"{told} after {self._step(run, rung)} steps"
                    run.error = Halved(run.progress.extra[_LEFT])
                    left.append(run)
        return left

    def _arms(self, runs: Sequence[Arm], rung: int) -> list[list[Arm]]:
        """The runs that differ only in their seed, together, if one of them stood at the rung and is in the search."""
        arms: dict[str, list[Arm]] = {}
        for run in runs:
            arms.setdefault(record.run_id(to_tree(run.config), seed=False), []).append(run)
        return [
            arm
            for arm in arms.values()
            if any(run.error is None and self._score(run, rung) is not None for run in arm)
        ]

    def _waits(self, run: Arm) -> bool:
        rung = _passed(run)
        if rung >= len(self.rungs):
            return False
        step = self._step(run, rung)
        return step is not None and run.progress.step >= step

    def _step(self, run: Arm, rung: int) -> int | None:
        """The step at which a run stands at a rung; None without one: the last validation is the end."""
        steps = sorted(run.plan.evals)
        return steps[self.rungs[rung] - 1] if self.rungs[rung] < len(steps) else None

    def _score(self, run: Arm, rung: int) -> float | None:
        """A run's metric at a rung; None for one that ended or failed before it."""
        step = self._step(run, rung) if run.judged or run.trains else None
        if step not in run.judged:
            if run.trains and step is not None:
                raise RuntimeError(
                    f"{run.curve_file} has no validation at step {step}, where the search ranks"
                )
            return None
        scores = run.judged[step]
        if self.metric not in scores:
            raise ValueError(f"halving.metric is {self.metric}; validation gives {', '.join(scores)}")
        return float(scores[self.metric])

    def _scores(self, arm: Sequence[Arm], rung: int) -> list[float]:
        found = [self._score(run, rung) for run in arm]
        return [score for score in found if score is not None]

    def _worth(self, arm: Sequence[Arm], rung: int) -> float:
        """The mean over an arm's seeds, more is better; with a seed that diverged, an arm is worth nothing."""
        mean = statistics.fmean(self._scores(arm, rung))
        if math.isnan(mean) or any(isinstance(run.error, FloatingPointError) for run in arm):
            return -math.inf
        return -mean if self.metric == "loss" else mean

    def _told(self, arm: Sequence[Arm], rung: int) -> str:
        scores = self._scores(arm, rung)
        seeds = f", the mean of {len(scores)} seeds" if len(scores) > 1 else ""
        diverged = (
            ", a seed diverged" if any(isinstance(run.error, FloatingPointError) for run in arm) else ""
        )
        return f"{self.metric} ({statistics.fmean(scores):.4g}{seeds}{diverged})"


def warn_of_split(gangs: int, most: str) -> None:
    """Say that a search which doesn't fit into one gang is several searches; `most` is the setting that bounds one."""
    if gangs > 1:
        _LOG.warning(
            "the search is split into %d gangs, and each is halved apart: arms are ranked only among those of their "
            "gang, and so is an arm whose seeds fell into two. Raise hydra.launcher.%s and memory_gb, or sweep only "
            "over what can share an llm",
            gangs,
            most,
        )


def warn_of_turns(names: Sequence[str]) -> None:
    """Say that runs which train in their turns are in no search."""
    if names:
        told = ", ".join(names)
        _LOG.warning("%d runs change the llm, so they don't compete in the search: %s", len(names), told)


def recall(arm: Arm, search: bool) -> None:
    """An arm that left a search stays out of it, and goes on where there is none."""
    if search and _LEFT in arm.progress.extra:
        arm.error = Halved(arm.progress.extra[_LEFT])
    arm.progress.extra.pop(_LEFT, None)


def note(arm: Arm, scores: dict[str, float]) -> None:
    """Keep a validation's scores, but for single labels': the last one's go into the record."""
    kept = {name: score for name, score in scores.items() if "/" not in name}
    arm.judged[arm.progress.step] = arm.progress.extra[_VAL] = kept


def remember(arm: Arm, rows: Iterable[Mapping[str, Any]]) -> None:
    """The validations of earlier attempts, from the curve."""
    for row in rows:
        told = {key.removeprefix(_CURVE): score for key, score in row.items() if key.startswith(_CURVE)}
        if told:
            arm.judged[row[keys.STEP]] = {name: score for name, score in told.items() if "/" not in name}


def _passed(arm: Arm) -> int:
    return int(arm.progress.extra.get(_RUNG, 0))
