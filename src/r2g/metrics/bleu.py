"""BLEU-1 to BLEU-<order> of the corpus, as coco-caption counts it."""

from collections.abc import Sequence
from dataclasses import dataclass

from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._wrap import references, score
from r2g.metrics.base import Metric
from r2g.scores.bleu import bleu


@METRICS.register("bleu")
@dataclass(frozen=True)
class Bleu(Metric):
    """Gives bleu_1 .. bleu_<order>; per report also the counts that a corpus value is summed from."""

    order: int

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ValueError(f"order must be at least 1, got {self.order}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"bleu_{n + 1}" for n in range(self.order))

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        return score(bleu.Bleu, predictions, references(predictions), order=self.order)
