"""ROUGE-L with beta 1.2, as coco-caption computes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._wrap import references, score
from r2g.metrics.base import Metric
from r2g.scores.rouge_l import rouge_l


@METRICS.register("rouge_l")
@dataclass(frozen=True)
class RougeL(Metric):
    """Gives rouge_l, the mean over the reports."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("rouge_l",)

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        return score(rouge_l.RougeL, predictions, references(predictions))
