"""Which runs may be compared: each is held against one of the baseline's, and every reason against it is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r2g.compare.runs import Arm, Run

# How reports are written in batches doesn't change them.
_INERT_DECODE = ("batch_size",)
_SHOWN = 3


@dataclass(frozen=True)
class Refusal:
    """A run that can't be compared with the baseline's, and why."""

    arm: str
    run: str
    seed: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed} ({self.run}): {'; '.join(self.reasons)}"


class UnfairPair(ValueError):
    """Runs that can't be compared; the message names each with all reasons."""

    def __init__(self, refusals: Sequence[Refusal], anchor: str) -> None:
        self.refusals = tuple(refusals)
        lines = [f"{len(refusals)} run(s) can't be compared with {anchor}:", *[f"  {r}" for r in refusals]]
        super().__init__("\n".join([*lines, "--leave-out compares the others and lists these"]))


def check(arms: Sequence[Arm], baseline: Arm) -> list[Refusal]:
    """All refusals. Stopped runs pass: their curves are kept as censored, and they have no scores.

    Raises ValueError when the baseline itself has no finished run.
    """
    if not baseline.finished:
        states = ", ".join(f"seed {run.seed} is {run.status}" for run in baseline.runs)
        raise ValueError(f"the baseline {baseline.name} has no finished run ({states})")
    anchor = baseline.finished[0]
    refusals = []
    for arm in arms:
        for run in arm.runs:
            reasons = _reasons(run, anchor) + _doubled(run, arm)
            if reasons:
                refusals.append(Refusal(arm.name, run.id, run.seed, tuple(reasons)))
    return refusals


def without(arms: Sequence[Arm], refusals: Sequence[Refusal]) -> list[Arm]:
    """The arms without the refused runs; an arm that loses all is gone."""
    refused = {refusal.run for refusal in refusals}
    kept = [Arm(a.hash, a.name, tuple(run for run in a.runs if run.id not in refused)) for a in arms]
    return [arm for arm in kept if arm.runs]


def _doubled(run: Run, arm: Arm) -> list[str]:
    others = [o for o in arm.runs if o is not run and o.seed == run.seed]
    return [f"the arm has this seed twice, also in {o.folder.name}" for o in others]


def _reasons(run: Run, anchor: Run) -> list[str]:
    if run.status not in ("finished", "stopped"):
        error = run.record.get("error", {}).get("message", "").partition("\n")[0]
        return [f"unfinished: its status is {run.status}" + (f" ({error})" if error else "")]
    reasons = _differs("data", _data(run), _data(anchor))
    reasons += _differs("decoding", _decoding(run), _decoding(anchor))
    if run.status == "stopped":
        return reasons + ([] if "budget" in run.record else ["it was stopped before its first step"])
    reasons += _differs("protocol", _protocol(run), _protocol(anchor))
    reasons += _differs("metric settings", _metrics(run, anchor), _metrics(anchor, run))
    return reasons + _reports(run, anchor)


def _data(run: Run) -> dict[str, Any]:
    return {"fingerprint": run.record["data"].get("fingerprint")}


def _protocol(run: Run) -> dict[str, Any]:
    stamp = run.record.get("protocol") or {}
    return {key: stamp.get(key) for key in ("name", "hash", "references")}


def _decoding(run: Run) -> dict[str, Any]:
    return {k: v for k, v in run.record["config"]["decode"].items() if k not in _INERT_DECODE}


def _metrics(run: Run, other: Run) -> dict[str, Any]:
    """The settings of the metrics that both runs have."""
    mine, theirs = (r.record["config"]["score"]["metrics"] for r in (run, other))
    return {label: settings for label, settings in mine.items() if label in theirs}


def _differs(what: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    different = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    told = [f"{key} {mine.get(key)}, not {theirs.get(key)}" for key in different]
    return [f"other {what}: {', '.join(told)}"] if told else []


def _reports(run: Run, anchor: Run) -> list[str]:
    if not run.rows:
        return ["it has no scores.jsonl"]
    mine, theirs = set(run.ids), set(anchor.ids)
    if mine != theirs:
        extra, absent = sorted(mine - theirs), sorted(theirs - mine)
        parts = [
            f"{len(ids)} {word} ({', '.join(ids[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''})"
            for ids, word in ((extra, "more"), (absent, "missing"))
            if ids
        ]
        return [f"another set of reports: {' and '.join(parts)}"]
    if len(run.ids) != len(mine):
        return ["scores.jsonl has an id twice"]
    if run.ids != anchor.ids:
        return ["the same reports in another order"]
    return _ngrams(run, anchor) + _labels(run, anchor)


def _ngrams(run: Run, anchor: Run) -> list[str]:
    counted = run.ngrams
    if counted is not None and counted.ids != run.ids:
        return ["ngrams.npz and scores.jsonl have other ids"]
    if counted is not None and anchor.ngrams is not None and counted.references != anchor.ngrams.references:
        return ["ngrams.npz was counted against other references"]
    return []


def _labels(run: Run, anchor: Run) -> list[str]:
    """Known labels are the studies' own: they must be the same ones."""
    if run.labels is None:
        return []
    if run.labels.ids != run.ids:
        return ["labels.npz and scores.jsonl have other ids"]
    theirs = {} if anchor.labels is None else anchor.labels.tables
    other = [
        key
        for key, table in run.labels.tables.items()
        if key in theirs
        and (table.names != theirs[key].names or not np.array_equal(table.known, theirs[key].known))
    ]
    return [f"labels.npz says that the studies have other labels ({', '.join(other)})"] if other else []


def memory_differs(runs: Sequence[Run]) -> list[str]:
    """Why their peaks of memory can't be compared; nothing if they can."""
    told = {
        "what was measured": {str((r.record.get("peak_memory") or {}).get("what")) for r in runs},
    }
    return _shared(runs) + _several(told)


def timing_differs(runs: Sequence[Run]) -> list[str]:
    """Why seconds of these runs can't be compared; nothing if they can."""
    told = {
        "how films were read (reuse.what)": {str(r.record.get("reuse", {}).get("what")) for r in runs},
        "device": {str(r.record.get("device")) for r in runs},
        "machine": {str(r.record.get("machine")) for r in runs},
        "precision": {str(r.record["config"]["train"].get("precision")) for r in runs},
    }
    return _shared(runs) + _several(told)


def _several(told: Mapping[str, set[str]]) -> list[str]:
    return [f"{what}: {', '.join(sorted(values))}" for what, values in told.items() if len(values) > 1]


def _shared(runs: Sequence[Run]) -> list[str]:
    """Were there gangs among them, whose figures are those of all their arms?"""
    ways = {str(r.record.get("ran", {}).get("how")) for r in runs}
    if ways <= {"solo", "None"}:
        return []
    gangs = sorted(ways - {"solo", "None"})
    return [f"what a process took that trained several runs isn't a run's own (ran: {', '.join(gangs)})"]
