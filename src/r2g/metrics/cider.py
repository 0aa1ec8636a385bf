"""CIDEr-D, with the document frequencies of the evaluated references."""

from collections.abc import Sequence
from dataclasses import dataclass

from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._wrap import references, score
from r2g.metrics.base import Metric
from r2g.scores.cider import cider


@METRICS.register("cider")
@dataclass(frozen=True)
class Cider(Metric):
    """Gives cider, up to 10; a report's value depends on all references, and one report alone scores 0."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("cider",)

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        return score(cider.Cider, predictions, references(predictions))
