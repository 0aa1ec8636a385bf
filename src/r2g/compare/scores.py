"""Corpus scores of a run as functions of its reports: what can be drawn again, and swapped, exactly."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from r2g.compare.runs import Run
from r2g.core import meteor
from r2g.core.labels import PARTS, LabelScore, LabelTable
from r2g.core.ngrams import ORDERS
from r2g.core.resample import bleu_of, others

_LABELS = ("label_hits", "label_false", "label_missed")
_MICRO = {f"label_{part}_micro": LabelScore(part, (0,)) for part in PARTS}  # of counts summed over the labels
_BLEU = [f"bleu_{n}" for n in range(1, ORDERS + 1)]
_NO_TABLE = "neither scores.jsonl nor labels.npz holds what it is made of"
CIDER = "cider"
_METEOR = "meteor"
_NO_STATISTICS = "scores.jsonl doesn't hold METEOR's statistics"
NGRAM_SCORES = (CIDER, *_BLEU)


class ScoreError(ValueError):
    """Scores per report that don't give the corpus score of the record."""


@dataclass(frozen=True)
class Sums:
    """A score that is a function of sums over reports: `columns` of scores.jsonl (none: their count) summed, then `of`.

    It covers means (a sum over a count), BLEU (n-gram counts), METEOR (matches) and micro F1 (hits, false, missed).
    """

    columns: tuple[str, ...]
    of: Callable[[np.ndarray], np.ndarray]  # [draw, column] to [draw]

    def matrix(self, run: Run) -> np.ndarray:
        """[report, column], a last column of ones."""
        rows = [[float(row[name]) for name in self.columns] + [1.0] for row in run.rows]
        return np.array(rows)


@dataclass(frozen=True)
class Counted:
    """A score of labels: hits, false and missed of each label, from labels.npz."""

    name: str
    of: Callable[[np.ndarray], np.ndarray]

    def matrix(self, run: Run, shuffled: bool = False) -> np.ndarray:
        """[report, 3 * label]; with `shuffled`, of the very reports of the record's control."""
        table = table_of(self.name, run)
        if table is None:
            raise ScoreError(f"{run.folder.name}: {_NO_TABLE}")
        table = table.moved(others(len(run.rows), run.seed)) if shuffled else table
        return table.counts(table.scores[self.name])


def table_of(name: str, run: Run) -> LabelTable | None:
    """The labels that a score comes from, if the run has them."""
    return None if run.labels is None else run.labels.table_of(name)


def counted(name: str, run: Run) -> Counted | None:
    """How a score comes from the run's labels; None where labels.npz can't give it."""
    table = table_of(name, run)
    return None if table is None else Counted(name, table.scores[name].of)


def way(name: str, run: Run) -> Sums | Counted | None:
    """How a score comes from the run's reports; None where the record can't give it (CIDEr has a way of its own)."""
    has = run.rows[0].keys() if run.rows else set()
    if name in _BLEU and f"bleu_guess_{ORDERS}" in has:
        order, kinds = int(name[-1]), ("correct", "guess")
        columns = [f"bleu_{kind}_{n}" for kind in kinds for n in range(1, ORDERS + 1)]
        return Sums((*columns, "bleu_reference_length"), lambda sums: bleu_of(sums[:, :-1])[:, order - 1])
    if (labels := counted(name, run)) is not None:
        return labels
    if name in _MICRO and set(_LABELS) <= has:  # the sums that records without labels.npz have
        return Sums(_LABELS, lambda sums: _MICRO[name].of(sums[:, :-1]))
    if name == _METEOR and set(meteor.COLUMNS) <= has:
        return Sums(meteor.COLUMNS, lambda sums: meteor.of(sums[:, :-1]))
    if name in has and name not in (CIDER, _METEOR):
        return Sums((name,), lambda sums: sums[:, 0] / sums[:, 1])
    return None


def lacks(name: str, run: Run) -> str | None:
    """Why a run's score can't be drawn again, or None if it can."""
    if name not in run.record["scores"]:
        reasons = run.record.get("absent", {})
        return str(reasons.get(name, "the run doesn't have it"))
    if name == CIDER:
        return None if run.ngrams is not None else "ngrams.npz is missing"
    if way(name, run) is not None:
        return None
    if name == _METEOR:
        return _NO_STATISTICS
    return "labels.npz is missing" if run.labels is None else _NO_TABLE


def lacks_shuffled(name: str, run: Run) -> str | None:
    """Why a run's score can't be drawn of its shuffled reports, or None if it can."""
    if name in NGRAM_SCORES:
        return None if run.ngrams is not None else "ngrams.npz is missing"
    if counted(name, run) is not None:
        return None
    if name in (run.rows[0].keys() if run.rows else ()):
        return f"a record doesn't hold {name} of shuffled reports; set blindness_score to another"
    return "labels.npz is missing" if run.labels is None else _NO_TABLE


def require_honest(name: str, run: Run, value: float) -> None:
    """The value at hand must be the record's. Raises ScoreError if not."""
    told = run.record["scores"][name]
    if not np.isclose(value, told, rtol=1e-6, atol=1e-9):
        raise ScoreError(
            f"{run.folder.name}: {name} of its reports is {value:.6f}, and record.json says {told:.6f}"
        )


@dataclass(frozen=True)
class Linear:
    """A run's reports for one score that comes from sums."""

    sums: Sums | Counted
    counts: np.ndarray

    @cached_property
    def total(self) -> np.ndarray:
        return self.counts.sum(axis=0)

    def observed(self) -> float:
        return float(self.sums.of(self.total[None])[0])

    def drawn(self, weights: np.ndarray) -> np.ndarray:
        """The score of each row of `weights` [draw, report]."""
        return self.sums.of(weights @ self.counts)

    def swapped(self, other: "Linear", moved: np.ndarray) -> np.ndarray:
        """This score minus the other's when the reports marked in `moved` [draw, report] have changed sides."""
        change = moved @ (other.counts - self.counts)
        return self.sums.of(self.total + change) - self.sums.of(other.total - change)


def linear(name: str, run: Run) -> Linear:
    """Ready to be drawn from. CIDEr's permutations keep the references, so there it is the mean of its values."""
    sums = Sums((CIDER,), lambda s: s[:, 0] / s[:, 1]) if name == CIDER else way(name, run)
    if sums is None:
        raise ScoreError(f"{run.folder.name}: {lacks(name, run)}")
    found = Linear(sums, sums.matrix(run))
    require_honest(name, run, found.observed())
    return found
