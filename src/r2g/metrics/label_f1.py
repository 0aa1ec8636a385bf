"""F1 of the findings that a rule-based reader finds in the reports, against the studies' known labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._wrap import score
from r2g.metrics.base import Metric
from r2g.phantom.findings import LABELS
from r2g.scores.label_f1 import label_f1


@METRICS.register("label_f1")
@dataclass(frozen=True)
class LabelF1(Metric):
    """Gives label_f1_micro, _macro and /<label>, label_precision_micro and label_recall_micro."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("label_f1_micro", "label_f1_macro", "label_precision_micro", "label_recall_micro")

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        known = [list(p.labels) for p in predictions if p.labels is not None]
        if len(known) < len(predictions):
            return Scores(
                absent=f"{len(predictions) - len(known)} of {len(predictions)} studies have no known labels"
            )
        strange = sorted({name for labels in known for name in labels} - set(LABELS))
        if strange:
            return Scores(absent=f"labels that its reader doesn't know: {', '.join(strange)}")
        return score(label_f1.LabelF1, predictions, known)
