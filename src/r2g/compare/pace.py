"""How fast an arm learned: its seeds apart, censored runs kept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from r2g.compare.fair import memory_differs, timing_differs
from r2g.compare.runs import Arm, Run
from r2g.core.convergence import converge

AXES = ("steps", "samples", "tokens", "seconds", "flops")


@dataclass(frozen=True)
class Reached:
    """A run on its way to the target: `value` per axis, or, if censored, how far it came without reaching it."""

    seed: int
    status: str
    censored: bool | None
    value: Mapping[str, float | int | None]
    area: float | None
    last_step: int


@dataclass(frozen=True)
class Middle:
    """The median over seeds; with `more` the median run never got there, and it is a lower bound."""

    value: float
    more: bool

    def __str__(self) -> str:
        return f"{'> ' if self.more else ''}{self.value:,.0f}"


def target_of(arms: Sequence[Arm], wanted: float | int | None) -> tuple[float | None, str]:
    """The loss that all runs are held to, and why there is none."""
    if wanted is not None:
        return float(wanted), ""
    told = {run.record.get("convergence", {}).get("target") for arm in arms for run in arm.finished}
    if len(told) == 1:
        value = told.pop()
        return (
            value,
            "" if value is not None else "the runs have no train.target_loss, and `target` is not set",
        )
    return None, f"the runs have other targets ({', '.join(sorted(map(str, told)))}); set `target`"


def reach(run: Run, target: float | None) -> Reached | None:
    """Read off the run's curve; None if it has none."""
    curve = run.curve
    if curve is None:
        return None
    found = converge(curve, target)
    ends: dict[str, float | int | None] = {
        "steps": curve.steps[-1],
        "samples": curve.samples[-1],
        "tokens": curve.tokens[-1],
        "seconds": curve.seconds[-1],
    }
    got: dict[str, float | int | None] = {axis: getattr(found, f"{axis}_to_target") for axis in ends}
    value = ends if found.censored else got
    work, samples = flops_per_sample(run), value["samples"]
    value["flops"] = None if work is None or samples is None else samples * work
    return Reached(run.seed, run.status, found.censored, value, found.area, curve.steps[-1])


def flops_per_sample(run: Run) -> float | None:
    """FLOPs of one study's forward and backward pass, if the record has them; what caches spare is counted too."""
    work: Mapping[str, Any] = run.record.get("budget", {}).get("flops") or {}
    return None if not {"forward", "backward"} <= set(work) else float(work["forward"] + work["backward"])


def middle(runs: Sequence[Reached], axis: str) -> Middle | None:
    """The median over seeds, a censored run counting as later than all others; None where nothing was measured."""
    known = [(run.value[axis], bool(run.censored)) for run in runs if run.censored is not None]
    if not known or any(value is None for value, _ in known):
        return None
    late = median(math.inf if censored else float(value or 0) for value, censored in known)
    if math.isfinite(late):
        return Middle(late, False)
    # The median of what is known to be too small at most: a bound from below.
    return Middle(median(float(value or 0) for value, _ in known), True)


def refusals(arms: Sequence[Arm]) -> dict[str, str]:
    """Columns that these runs can't fill side by side, with the reason."""
    runs = [run for arm in arms for run in arm.runs if run.curve is not None]
    refused = {}
    if differs := timing_differs(runs):
        refused["seconds"] = "; ".join(differs)
    if differs := memory_differs([run for run in runs if run.status == "finished"]):
        refused["memory"] = "; ".join(differs)
    lengths = {len(run.curve.steps) and run.curve.steps[-1] for run in runs if run.curve is not None}
    if len(lengths) > 1:
        refused["area"] = f"runs of other lengths: {', '.join(map(str, sorted(lengths)))} steps"
    lacking = [run.id for run in runs if flops_per_sample(run) is None]
    if lacking:
        refused["flops"] = f"{len(lacking)} record(s) hold no FLOPs{_why(runs)}"
    return refused


def _why(runs: Sequence[Run]) -> str:
    reasons = {run.record.get("budget", {}).get("flops_absent") for run in runs} - {None}
    return f" ({'; '.join(sorted(reasons))})" if reasons else ""
