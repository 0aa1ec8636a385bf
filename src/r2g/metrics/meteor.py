"""METEOR 1.5, which needs a Java."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import numpy as np

from r2g.core import meteor as statistics
from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._wrap import NOTHING, references, score
from r2g.metrics.base import Metric
from r2g.scores.meteor import meteor


@METRICS.register("meteor")
@dataclass(frozen=True)
class Meteor(Metric):
    """Gives meteor; absent, with the reason, where Java is missing, fails, or takes more than `seconds`."""

    slow: ClassVar[bool] = True
    seconds: float

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ValueError(f"seconds must be above 0, got {self.seconds}")

    @property
    def names(self) -> tuple[str, ...]:
        return ("meteor",)

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        return self.score_all([predictions])[0]

    def score_all(self, tables: Sequence[Sequence[Prediction]]) -> list[Scores]:
        rows = [row for predictions in tables for row in predictions]
        seconds = self.seconds * max(1, len(tables))
        try:
            whole = score(meteor.Meteor, rows, references(rows), seconds=seconds)
        except meteor.MeteorUnavailable as error:
            return [Scores(absent=str(error)) for _ in tables]
        ends = list(accumulate(map(len, tables)))
        return [_part(whole, end - len(rows), end) for rows, end in zip(tables, ends, strict=True)]


def _part(whole: Scores, start: int, end: int) -> Scores:
    """The scores of some reports: METEOR of a corpus follows from its reports' statistics."""
    if start == end:
        return Scores(absent=NOTHING)
    per_report = {name: values[start:end] for name, values in whole.per_report.items()}
    sums = np.array([[sum(per_report[name]) for name in statistics.COLUMNS]])
    return Scores({"meteor": float(statistics.of(sums)[0])}, per_report)
