"""METEOR 1.5, which needs a Java."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._wrap import references, score
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
        try:
            return score(meteor.Meteor, predictions, references(predictions), seconds=self.seconds)
        except meteor.MeteorUnavailable as error:
            return Scores(absent=str(error))
