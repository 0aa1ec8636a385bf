"""The draws behind every interval: the same resamples of the reports for all runs, the same swaps for all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from r2g.compare import blind, scores, stats
from r2g.compare.corpora import Corpora
from r2g.compare.runs import Arm, Run
from r2g.compare.spec import Spec
from r2g.core.registry import nearest
from r2g.core.resample import bootstrap

HIGHER, LOWER, NEITHER = "higher", "lower", "no difference shown"
_ALPHA = 1 - stats.LEVEL
_LABEL = "label_f1/"


@dataclass(frozen=True)
class Estimate:
    """An arm's score: the mean over its seeds, each seed's own, and the interval over reports (None: can't be had)."""

    value: float
    seeds: Mapping[int, float]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """Arm minus baseline, over the seeds that both have. `holm` is p adjusted for all arms of the comparison."""

    value: float
    low: float
    high: float
    p: float
    holm: float
    detectable: float
    seeds: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """Higher or lower only if the adjusted p is below 0.05 and every pair of seeds says so."""
        signs = {np.sign(value) for value in self.seeds.values()}
        if self.holm >= _ALPHA or len(signs) > 1:
            return NEITHER
        return HIGHER if self.value > 0 else LOWER


@dataclass
class Results:
    """Estimates, differences and verdicts by arm's hash."""

    estimates: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    seen: dict[str, tuple[blind.Seen, ...]] = field(default_factory=dict)
    labels: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, spec: Spec, arms: Sequence[Arm], baseline: Arm) -> "Results":
        """Everything that is drawn. Raises ScoreError when the primary metric can't be had of every run."""
        found = cls()
        whole = _usable(spec, arms, found.notes)
        _require_had(spec.held_to, arms)
        runs = [run for arm in arms for run in arm.finished]
        weights = bootstrap(len(runs[0].ids), spec.resamples, spec.seed)
        weights = np.concatenate(
            [np.ones_like(weights[:1]), weights]
        )  # the first draw is the reports as they are
        corpora = Corpora(runs, weights)
        drawn = {
            (run.id, name): corpora.honest_cider(run) if name == scores.CIDER else _linear(name, run, weights)
            for name in whole
            for run in runs
        }
        for arm in arms:
            found.estimates[arm.hash] = _estimates(arm, spec.scores, drawn)
            found.seen[arm.hash] = tuple(_seen(run, spec, corpora) for run in arm.finished)
            found.labels[arm.hash] = _labels(arm, weights)
        found._compare(spec, arms, baseline, whole, drawn)
        return found

    def _compare(
        self,
        spec: Spec,
        arms: Sequence[Arm],
        baseline: Arm,
        names: Sequence[str],
        drawn: Mapping[tuple[str, str], np.ndarray],
    ) -> None:
        others = [arm for arm in arms if arm.hash != baseline.hash and arm.finished]
        pairs = {arm.hash: paired(arm, baseline) for arm in others}
        p_values = _p_values(spec, pairs, names)
        for name in names:
            adjusted = stats.holm([p_values[arm.hash, name] for arm in others])
            for arm, holm in zip(others, adjusted, strict=True):
                found = {
                    label: drawn[mine.id, name] - drawn[theirs.id, name]
                    for label, mine, theirs in pairs[arm.hash]
                }
                mean = np.mean(list(found.values()), axis=0)
                self.differences.setdefault(arm.hash, {})[name] = Difference(
                    float(mean[0]),
                    *stats.interval(mean[1:]),
                    p_values[arm.hash, name],
                    holm,
                    stats.detectable(mean[1:], len(others)),
                    {label: float(values[0]) for label, values in found.items()},
                )


def paired(arm: Arm, baseline: Arm) -> list[tuple[str, Run, Run]]:
    """Runs of equal seed; if the arms share none, in the order of their seeds. The label says which."""
    theirs = {run.seed: run for run in baseline.finished}
    same = [(str(run.seed), run, theirs[run.seed]) for run in arm.finished if run.seed in theirs]
    if same:
        return same
    rows = zip(arm.finished, baseline.finished, strict=False)
    return [(f"{mine.seed} against {other.seed}", mine, other) for mine, other in rows]


def _usable(spec: Spec, arms: Sequence[Arm], notes: list[str]) -> list[str]:
    """The scores that can be drawn for every finished run; why others can't goes into the notes."""
    usable = []
    runs = sum(len(arm.finished) for arm in arms)
    for name in spec.scores:
        lacking: dict[str, list[str]] = {}
        for arm in arms:
            for run in arm.finished:
                if reason := scores.lacks(name, run):
                    lacking.setdefault(reason, []).append(f"{arm.name} seed {run.seed}")
        told = "; ".join(
            f"{reason} ({'every run' if len(who) == runs else ', '.join(who)})"
            for reason, who in lacking.items()
        )
        if told and name == spec.primary:
            raise scores.ScoreError(f"the primary metric {name} can't be drawn again for every run: {told}")
        if told:
            notes.append(f"{name} has no intervals and no test: {told}")
        else:
            usable.append(name)
    return usable


def _estimates(
    arm: Arm, names: Sequence[str], drawn: Mapping[tuple[str, str], np.ndarray]
) -> dict[str, Estimate]:
    found = {}
    for name in names:
        runs = [run for run in arm.finished if name in run.record["scores"]]
        if not runs:
            continue
        seeds = {run.seed: float(run.record["scores"][name]) for run in runs}
        value = sum(seeds.values()) / len(seeds)
        if all((run.id, name) in drawn for run in runs):
            mean = np.mean([drawn[run.id, name] for run in runs], axis=0)
            found[name] = Estimate(value, seeds, *stats.interval(mean[1:]))
        else:
            found[name] = Estimate(value, seeds)
    return found


def _linear(name: str, run: Run, weights: np.ndarray) -> np.ndarray:
    return scores.linear(name, run).drawn(weights)


def _p_values(
    spec: Spec, pairs: Mapping[str, list[tuple[str, Run, Run]]], names: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Approximate randomization: a report's outputs change sides in all pairs of seeds at once, or in none."""
    ready = {
        (arm, name): [(scores.linear(name, mine), scores.linear(name, other)) for _, mine, other in rows]
        for arm, rows in pairs.items()
        for name in names
    }
    if not ready:
        return {}
    reports = len(next(iter(ready.values()))[0][0].counts)
    permuted: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in ready}
    for moved in stats.swaps(spec.permutations, reports, spec.seed):
        for key, rows in ready.items():
            permuted[key].append(np.mean([mine.swapped(other, moved) for mine, other in rows], axis=0))
    return {
        key: stats.p_value(
            float(np.mean([mine.observed() - other.observed() for mine, other in ready[key]])),
            np.concatenate(values),
        )
        for key, values in permuted.items()
    }


def _seen(run: Run, spec: Spec, corpora: Corpora) -> blind.Seen:
    if reason := scores.lacks_shuffled(spec.held_to, run):
        return blind.unknown(run, reason)
    real, shuffled = (corpora.score(spec.held_to, run, moved) for moved in (False, True))
    return blind.judge(run, spec.held_to, real, shuffled, spec.blindness_margin)


def _require_had(name: str, arms: Sequence[Arm]) -> None:
    """The controls are held to a score that some run has. Raises ScoreError."""
    known = list(dict.fromkeys(key for arm in arms for run in arm.finished for key in run.record["scores"]))
    if name not in known:
        raise scores.ScoreError(f"blindness_score: no run has {name}{nearest(name, known)}")


def _labels(arm: Arm, weights: np.ndarray) -> dict[str, Estimate]:
    """F1 of each label; with intervals where all runs have labels.npz."""
    names = list(dict.fromkeys(name for run in arm.finished for name in run.record["scores"]))
    names = [name for name in names if name.startswith(_LABEL)]
    drawn = {
        (run.id, name): _linear(name, run, weights)
        for name in names
        for run in arm.finished
        if name in run.record["scores"] and scores.counted(name, run) is not None
    }
    found = _estimates(arm, names, drawn)
    return {name.removeprefix(_LABEL): estimate for name, estimate in found.items()}
