"""All that a report says, computed from records: arms with intervals, differences to the baseline, verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2g.compare import blind, draws, fair, pace
from r2g.compare.draws import Difference, Estimate
from r2g.compare.runs import Arm, RunsError
from r2g.compare.spec import Spec
from r2g.core.registry import nearest


@dataclass(frozen=True)
class Row:
    """One arm of the comparison."""

    arm: Arm
    scores: Mapping[str, Estimate]
    differences: Mapping[str, Difference]
    reached: tuple[pace.Reached, ...]
    seen: tuple[blind.Seen, ...]
    labels: Mapping[str, Estimate]

    @property
    def name(self) -> str:
        return self.arm.name

    @property
    def trainable(self) -> int:
        return int(self.arm.budget["trainable"])

    @property
    def percent(self) -> float:
        return float(self.arm.budget["trainable_percent"])

    @property
    def verdict(self) -> str:
        return blind.together(self.seen) if self.seen else blind.UNCLEAR

    def mean(self, *path: str) -> float | None:
        """The mean over finished runs of a figure of the record, None if one lacks it."""
        values = [_dig(run.record, path) for run in self.arm.finished]
        if not values or any(value is None for value in values):
            return None
        return float(sum(float(value) for value in values) / len(values))

    def whole(self) -> float | None:
        """Mean seconds from start to record, without what the cache's films took; None if a run had several attempts.

        Of those only the last one's are known, and who fills the cache works for the others.
        """
        if any(_dig(run.record, ("training", "attempts")) not in (None, 1) for run in self.arm.finished):
            return None
        wall, kept = self.mean("wall_seconds"), self.mean("reuse", "seconds")
        return None if wall is None else wall - (kept or 0.0)

    def control(self, name: str, score: str) -> float | None:
        """A control's corpus score, meaned over the seeds."""
        return self.mean("controls", name, score)


@dataclass(frozen=True)
class Comparison:
    """`notes` say why a score or a column is absent; `left_out` names the runs that aren't in it."""

    name: str
    spec: Spec
    baseline: str
    reports: int
    rows: tuple[Row, ...]
    target: float | None
    refused: Mapping[str, str]
    notes: tuple[str, ...]
    left_out: tuple[fair.Refusal, ...]

    @property
    def scored(self) -> tuple[Row, ...]:
        """The arms that have a finished run."""
        return tuple(row for row in self.rows if row.scores)

    @property
    def protocol(self) -> str:
        """Name and hash of the rules that all scores are under."""
        stamp = self.base.arm.finished[0].record["protocol"]
        return f"{stamp['name']} {stamp['hash']}"

    @property
    def base(self) -> Row:
        return next(row for row in self.rows if row.name == self.baseline)

    @property
    def shareable(self) -> bool:
        runs = [run for row in self.rows for run in row.arm.runs]
        return all(run.record["data"].get("shareable") is True for run in runs)


def compare(name: str, spec: Spec, arms: Sequence[Arm], leave_out: bool = False) -> Comparison:
    """Check, draw and test. Raises UnfairPair, RunsError for a baseline that no arm has, ScoreError."""
    baseline = _baseline(arms, spec.baseline)
    refusals = fair.check(arms, baseline)
    if refusals and not leave_out:
        raise fair.UnfairPair(refusals, f"{baseline.name} (the baseline)")
    arms = fair.without(arms, refusals)
    baseline = next(arm for arm in arms if arm.hash == baseline.hash)
    if not baseline.finished:
        raise RunsError(f"no run of the baseline {baseline.name} is left")
    results = draws.Results.of(spec, arms, baseline)
    target, why = pace.target_of(arms, spec.target)
    refused = pace.refusals(arms) | ({"target": why} if target is None else {})
    rows = tuple(_row(arm, results, target) for arm in arms)
    reports = len(baseline.finished[0].ids)
    notes = (*results.notes, *_stopped(arms))
    return Comparison(name, spec, baseline.name, reports, rows, target, refused, notes, tuple(refusals))


def _baseline(arms: Sequence[Arm], wanted: str | None) -> Arm:
    if not arms:
        raise RunsError("there is no run to compare")
    if wanted is None:
        return next((arm for arm in arms if arm.finished), arms[0])
    for arm in arms:
        if wanted in (arm.name, arm.hash):
            return arm
    names = [arm.name for arm in arms]
    raise RunsError(f"no arm is the baseline '{wanted}'{nearest(wanted, names)} (arms: {', '.join(names)})")


def _row(arm: Arm, results: "draws.Results", target: float | None) -> Row:
    reached = tuple(found for run in arm.runs if (found := pace.reach(run, target)) is not None)
    estimates, gaps = results.estimates.get(arm.hash, {}), results.differences.get(arm.hash, {})
    labels = results.labels.get(arm.hash, {})
    return Row(arm, estimates, gaps, reached, results.seen.get(arm.hash, ()), labels)


def _stopped(arms: Sequence[Arm]) -> list[str]:
    return [
        f"{arm.name}, seed {run.seed}: stopped after step {run.curve.steps[-1] if run.curve else 0}; its loss counts "
        "as censored, and it has no scores"
        for arm in arms
        for run in arm.runs
        if run.status == "stopped"
    ]


def _dig(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
