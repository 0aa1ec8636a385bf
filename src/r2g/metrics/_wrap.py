"""What the metrics share: predictions into an `evaluate` module, its result into Scores."""

from collections.abc import Sequence
from typing import Any

import evaluate

from r2g.core.types import Prediction, Scores

NOTHING = "no reports to score"


def score(
    module: type[evaluate.Metric],
    predictions: Sequence[Prediction],
    references: Sequence[str] | Sequence[list[str]],
    **settings: Any,
) -> Scores:
    """Run a module over the predictions' reports. Absent when there is no report at all."""
    if not predictions:
        return Scores(absent=NOTHING)
    # In memory: otherwise evaluate writes the reports, perhaps patients', into the user's cache folder.
    metric = module(keep_in_memory=True)
    written = [p.hypothesis for p in predictions]
    result = metric.compute(predictions=written, references=list(references), **settings)
    per_report, tables = result.pop("per_report"), result.pop("tables", {})
    return Scores(corpus=result, per_report=per_report, tables=tables)


def references(predictions: Sequence[Prediction]) -> list[str]:
    """The radiologists' reports, one a prediction."""
    return [p.reference for p in predictions]
