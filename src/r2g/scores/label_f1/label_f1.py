"""Label F1: the findings that a rule-based reader finds in a report, against the study's known labels."""

from typing import Any

import datasets
import evaluate
import numpy as np

from r2g.core.labels import PARTS, LabelScore, LabelTable, over, single
from r2g.phantom.findings import LABELS
from r2g.phantom.read import read

_INPUTS = """
Args:
    predictions: the reports as written, one text each; no finding read in it means a normal study.
    references: the names of each study's findings (none for a normal study), or a text to read them from.
Returns:
    label_f1_micro, label_precision_micro, label_recall_micro: over all labels of all reports, in [0, 1]. 0/0
        is 0, but 1 when neither side has any finding at all.
    label_f1_macro: the mean F1 of the labels that occur in the references, so that arms on one test split
        share the set. Without any such label it is label_f1_micro.
    label_f1/<label>: for each label that occurs in the references.
    per_report: label_f1 (by the same rule: a normal study read as normal scores 1), and the counts
        label_hits, label_false and label_missed, whose sums over a set of reports give its micro scores.
    tables: `label_f1`, a r2g.core.labels.LabelTable of what was found in each report and is known of its study.
Raises:
    ValueError: a reference names a label that the reader doesn't know.
"""


class LabelF1(evaluate.Metric):
    """Micro, macro and per-label F1 of findings."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        formats: list[Any] = [datasets.Sequence(text), text]
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description=_INPUTS,
            features=[datasets.Features({"predictions": text, "references": f}) for f in formats],
        )

    def _compute(self, predictions: list[str], references: list[Any]) -> dict[str, Any]:
        found = _table([read(text) for text in predictions])
        known = _table([read(refs) if isinstance(refs, str) else frozenset(refs) for refs in references])
        hits, wrong, missed = found & known, found & ~known, known & ~found
        counts = [int(part.sum()) for part in (hits, wrong, missed)]
        labels = {
            f"label_f1/{label}": _f1(*(int(part[:, i].sum()) for part in (hits, wrong, missed)))
            for i, label in enumerate(LABELS)
            if known[:, i].any()
        }
        rows = np.stack([part.sum(axis=1) for part in (hits, wrong, missed)], axis=1).tolist()
        per_report = {"label_f1": [_f1(*row) for row in rows]}
        for i, name in enumerate(("label_hits", "label_false", "label_missed")):
            per_report[name] = [float(row[i]) for row in rows]
        micro = _f1(*counts)
        return {
            "label_f1_micro": micro,
            "label_f1_macro": float(np.mean(list(labels.values()))) if labels else micro,
            "label_precision_micro": _share(counts[0], counts[1], counts[2]),
            "label_recall_micro": _share(counts[0], counts[2], counts[1]),
            **labels,
            "per_report": per_report,
            "tables": {"label_f1": LabelTable(LABELS, found, known, _scores(list(labels)))},
        }


def _scores(alone: list[str]) -> dict[str, LabelScore]:
    """What comes from the table; `alone` are the scores of one label."""
    micro = {f"label_{part}_micro": over(part, LABELS, LABELS) for part in PARTS}
    macro = {"label_f1_macro": over("f1", LABELS, LABELS, macro=True)}
    return {**micro, **macro, **{name: single("f1", LABELS, name.partition("/")[2]) for name in alone}}


def _table(sets: list[frozenset[str]]) -> np.ndarray:
    """Booleans [report, label], labels in the order of LABELS."""
    unknown = sorted(frozenset().union(*sets) - set(LABELS))
    if unknown:
        raise ValueError(f"unknown labels: {', '.join(unknown)} (known: {', '.join(LABELS)})")
    return np.array([[label in labels for label in LABELS] for labels in sets], dtype=bool)


def _f1(hits: int, wrong: int, missed: int) -> float:
    return _share(2 * hits, wrong + missed, 0)


def _share(hits: int, rest: int, other: int) -> float:
    """hits / (hits + rest); 0/0 is 1 if the other side is empty too, else 0."""
    if hits + rest:
        return hits / (hits + rest)
    return 0.0 if other else 1.0
