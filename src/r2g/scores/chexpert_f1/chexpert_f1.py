"""CheXpert F1: the observations that rules find in the report as written, against those found in the reference."""

from typing import Any

import datasets
import evaluate
import numpy as np

from r2g.chexpert.labeller import Label, label
from r2g.chexpert.lexicon import FIVE, OBSERVATIONS
from r2g.core.labels import PARTS, LabelScore, LabelTable, over, single

SETS = {"14": OBSERVATIONS, "5": FIVE}
READINGS = {
    "uncertain_negative": (Label.positive,),
    "uncertain_positive": (Label.positive, Label.uncertain),
}
_INPUTS = """
Args:
    predictions: the reports as written, one text each.
    references: the radiologists' reports, one text each.
Returns, each once with uncertain labels as negative and once as positive (<reading>: uncertain_negative,
uncertain_positive), in [0, 1]:
    chexpert<set>_<part>_micro_<reading>: f1, precision and recall over all labels of all reports; the set is the
        14 observations or the 5 (Atelectasis, Cardiomegaly, Consolidation, Edema, Pleural Effusion). 0/0 is 0,
        but 1 when neither side has any.
    chexpert<set>_f1_macro_<reading>: the mean F1 of the labels that occur in the references, so that arms on one
        test split share the set. Without any such label it is the micro F1.
    chexpert_<part>_<reading>/<observation>: for each label that occurs in the references.
    per_report: chexpert<set>_f1_<reading>, and the counts chexpert<set>_hits_, _false_ and _missed_<reading>,
        whose sums over a set of reports give its micro scores.
    tables: for each reading a r2g.core.labels.LabelTable, named chexpert_<reading>.
"""


class ChexpertF1(evaluate.Metric):
    """Micro, macro and per-label scores of the CheXpert observations; both sides are labelled by the same rules."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        written, known = [[label(text) for text in texts] for texts in (predictions, references)]
        corpus: dict[str, float] = {}
        per_report: dict[str, list[float]] = {}
        tables: dict[str, LabelTable] = {}
        for reading, stated in READINGS.items():
            sides = _table(written, stated), _table(known, stated)
            counts = _counts(*sides)
            alone = dict(zip(OBSERVATIONS, counts.sum(axis=1).T.tolist(), strict=True))
            alone = {name: row for name, row in alone.items() if row[0] + row[2]}
            for size, names in SETS.items():
                chosen = counts[:, :, [OBSERVATIONS.index(name) for name in names]]
                corpus |= _corpus(size, reading, chosen, [alone[name] for name in names if name in alone])
                per_report |= _rows(size, reading, chosen)
            for name, row in alone.items():
                scores = zip(PARTS, scored(*row), strict=True)
                corpus |= {f"chexpert_{part}_{reading}/{name}": value for part, value in scores}
            tables[f"chexpert_{reading}"] = LabelTable(OBSERVATIONS, *sides, _scores(reading, list(alone)))
        return {**corpus, "per_report": per_report, "tables": tables}


def scored(hits: int, wrong: int, missed: int) -> tuple[float, float, float]:
    """F1, precision and recall."""
    return (
        _share(2 * hits, wrong + missed, 0),
        _share(hits, wrong, missed),
        _share(hits, missed, wrong),
    )


def _corpus(size: str, reading: str, counts: np.ndarray, alone: list[list[int]]) -> dict[str, float]:
    micro = scored(*counts.sum(axis=(1, 2)).tolist())
    macro = float(np.mean([scored(*row)[0] for row in alone])) if alone else micro[0]
    named = {f"chexpert{size}_{p}_micro_{reading}": v for p, v in zip(PARTS, micro, strict=True)}
    return {**named, f"chexpert{size}_f1_macro_{reading}": macro}


def _scores(reading: str, occur: list[str]) -> dict[str, LabelScore]:
    """What comes from a reading's table; `occur` are the labels that have scores of their own."""
    found: dict[str, LabelScore] = {}
    for size, names in SETS.items():
        found |= {f"chexpert{size}_{part}_micro_{reading}": over(part, OBSERVATIONS, names) for part in PARTS}
        found[f"chexpert{size}_f1_macro_{reading}"] = over("f1", OBSERVATIONS, names, macro=True)
    return found | {
        f"chexpert_{part}_{reading}/{name}": single(part, OBSERVATIONS, name)
        for part in PARTS
        for name in occur
    }


def _rows(size: str, reading: str, counts: np.ndarray) -> dict[str, list[float]]:
    totals = counts.sum(axis=2)
    rows = {f"chexpert{size}_f1_{reading}": [scored(*row)[0] for row in totals.T.tolist()]}
    for name, part in zip(("hits", "false", "missed"), totals, strict=True):
        rows[f"chexpert{size}_{name}_{reading}"] = part.astype(float).tolist()
    return rows


def _table(labels: list[dict[str, Label]], stated: tuple[Label, ...]) -> np.ndarray:
    """Booleans [report, observation]."""
    return np.array([[marks[name] in stated for name in OBSERVATIONS] for marks in labels], dtype=bool)


def _counts(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Hits, false and missed labels: [3, report, observation]."""
    return np.stack([found & known, found & ~known, known & ~found]).astype(int)


def _share(hits: int, rest: int, other: int) -> float:
    """hits / (hits + rest); 0/0 is 1 if the other side is empty too, else 0."""
    if hits + rest:
        return float(hits / (hits + rest))
    return 0.0 if other else 1.0
