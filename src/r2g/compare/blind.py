"""Does a run look at the film? Its score against that of its own reports, given to other studies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from r2g.compare import stats
from r2g.compare.runs import Run
from r2g.core.ngrams import NGrams
from r2g.core.resample import others

YES, NO, UNCLEAR = "yes", "no", "unclear"


@dataclass(frozen=True)
class Seen:
    """One run's verdict. `low` and `high` bound score - shuffled; `margin` is what it must exceed."""

    seed: int
    score: float | None
    shuffled: float | None
    low: float | None
    high: float | None
    margin: float | None
    verdict: str
    reason: str = ""


def shuffle(run: Run, counted: NGrams) -> NGrams:
    """The run's n-grams with each report given to another study: the very `shuffled` control of its record."""
    return replace(counted, hypothesis=counted.hypothesis[others(len(counted), run.seed)])


def judge(run: Run, name: str, real: np.ndarray, shuffled: np.ndarray, margin: float | int) -> Seen:
    """`real` and `shuffled`: the score's draws on the same resamples, the observed value first.

    With D = score - shuffled and m = `margin` * shuffled: **yes** if the whole 95 % bootstrap interval of D lies above
    m, **no** if all of it lies below, **unclear** else.
    """
    told = run.record.get("controls", {}).get("shuffled", {}).get(name)
    if told is None:
        return unknown(run, "the run has no shuffled control")
    if not np.isclose(told, shuffled[0], rtol=1e-6, atol=1e-9):
        return unknown(run, f"the record's control is {told:.4f}, its files give {shuffled[0]:.4f}")
    low, high = stats.interval(real[1:] - shuffled[1:])
    must = margin * float(shuffled[0])
    verdict = YES if low > must else NO if high < must else UNCLEAR
    return Seen(run.seed, float(real[0]), float(shuffled[0]), low, high, must, verdict)


def unknown(run: Run, reason: str) -> Seen:
    """Nothing can be said, and why."""
    return Seen(run.seed, None, None, None, None, None, UNCLEAR, reason)


def together(seen: Sequence[Seen]) -> str:
    """An arm's verdict: that of its runs if they agree, else unclear."""
    verdicts = {one.verdict for one in seen}
    return verdicts.pop() if len(verdicts) == 1 else UNCLEAR
