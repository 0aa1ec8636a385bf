"""Several runs' reports scored in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from r2g import assess, judging, protocol, session
from r2g.core.types import Prediction, Scores
from r2g.member import Run
from r2g.metrics.base import Metric

CALLS: list[list[int]] = []


@dataclass(frozen=True)
class Count(Metric):
    """Counts reports, and how often it is started."""

    by: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        return ("count",)

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        return self.score_all([predictions])[0]

    def score_all(self, tables: Sequence[Sequence[Prediction]]) -> list[Scores]:
        CALLS.append([len(table) for table in tables])
        return [Scores({"count": float(self.by * len(table))}) for table in tables]


@dataclass(frozen=True)
class Missing(Metric):
    """Is never there."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("missing",)

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        return Scores(absent="not here")


@pytest.fixture
def judge() -> protocol.Judge:
    CALLS.clear()
    return protocol.Judge(protocol.read(protocol.BASE)[0], protocol.Material())


def reports(count: int) -> list[Prediction]:
    return [Prediction(str(i), "the lungs are clear .", "clear .") for i in range(count)]


def test_a_metric_starts_once_for_all_runs_that_ask_for_it_alike(judge: protocol.Judge) -> None:
    asked = [{"count": Count()}, {"count": Count(by=10)}, {"missing": Missing(), "count": Count()}]
    found = assess.score_all([assess.Work(reports(n + 1), metrics, judge) for n, metrics in enumerate(asked)])
    assert CALLS == [[1, 3], [2]]
    assert [outcome.corpus for outcome in found] == [{"count": 1.0}, {"count": 20.0}, {"count": 3.0}]
    assert [outcome.absent for outcome in found] == [{}, {}, {"missing": "not here"}]
    assert [len(outcome.predictions) for outcome in found] == [1, 2, 3]


def test_a_metric_s_values_do_not_depend_on_the_other_runs(judge: protocol.Judge) -> None:
    works = [assess.Work(reports(n), {"count": Count()}, judge) for n in (2, 5)]
    assert assess.score_all(works) == [assess.score(w.predictions, w.metrics, w.judge) for w in works]


@dataclass(frozen=True)
class Picky(Count):
    """Breaks on a table of one report."""

    def score_all(self, tables: Sequence[Sequence[Prediction]]) -> list[Scores]:
        if any(len(table) == 1 for table in tables):
            raise RuntimeError("one report is too few")
        return super().score_all(tables)


def test_a_run_whose_reports_can_not_be_scored_leaves_the_others_alone(
    judge: protocol.Judge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session, "judge_for", lambda config, setup: judge)
    runs = [object.__new__(Run) for _ in range(4)]
    for run in runs:
        vars(run).update(
            config=None, setup=object.__new__(session.Setup), accelerator=SimpleNamespace(num_processes=1)
        )
    written: list[Any] = [reports(2), reports(1), RuntimeError("wrote nothing"), reports(3)]
    found = judging._scored(runs, [{"count": Picky()}] * 4, written)
    assert [str(o) if isinstance(o, Exception) else o.corpus for o in found] == [
        {"count": 2.0},
        "one report is too few",
        "wrote nothing",
        {"count": 3.0},
    ]
    assert "scored one after the other" in caplog.text
