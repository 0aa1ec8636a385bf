"""F1 of the CheXpert observations that rules find in the reports, against those found in the references."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from r2g.core.labels import PARTS
from r2g.core.slots import METRICS
from r2g.core.types import Labeller, Prediction, Scores
from r2g.metrics._wrap import references, score
from r2g.metrics.base import Metric
from r2g.scores.chexpert_f1 import chexpert_f1


@METRICS.register("chexpert_f1")
@dataclass(frozen=True)
class ChexpertF1(Metric):
    """Gives chexpert<14|5>_<f1|precision|recall>_micro_<reading> and _f1_macro_<reading>, and each label's own."""

    labeller: ClassVar[Labeller | None] = Labeller.rules

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            f"chexpert{size}_{part}_{reading}"
            for reading in chexpert_f1.READINGS
            for size in chexpert_f1.SETS
            for part in (*(f"{part}_micro" for part in PARTS), "f1_macro")
        )

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        return score(chexpert_f1.ChexpertF1, predictions, references(predictions))
