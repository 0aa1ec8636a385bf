"""BLEU as coco-caption counts it: one corpus of whitespace tokens, against the closest reference length."""

from typing import Any

import datasets
import evaluate
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

_INPUTS = """
Args:
    predictions: the reports as written, one text each.
    references: one text, or a list of texts, for each report.
    order: the longest n-gram, 4 unless told.
Returns:
    bleu_1 to bleu_<order>: of the corpus, in [0, 1]; an empty prediction matches nothing and still counts
        for the brevity penalty.
    per_report: bleu_<n> of each report alone, and the counts (bleu_correct_<n>, bleu_guess_<n>, bleu_length,
        bleu_reference_length) whose sums over any set of reports give that set's corpus BLEU.
"""
_CITATION = """
@inproceedings{papineni2002bleu,
    title = {BLEU: a Method for Automatic Evaluation of Machine Translation},
    author = {Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing},
    booktitle = {ACL}, year = {2002}
}
"""


class Bleu(evaluate.Metric):
    """Corpus BLEU with its per-report counts."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        formats: list[Any] = [datasets.Sequence(text), text]
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[datasets.Features({"predictions": text, "references": f}) for f in formats],
        )

    def _compute(self, predictions: list[str], references: list[Any], order: int = 4) -> dict[str, Any]:
        scorer = BleuScorer(n=order)
        for text, refs in zip(predictions, references, strict=True):
            scorer += (text, [refs] if isinstance(refs, str) else refs)
        corpus, reports = scorer.compute_score(option="closest", verbose=0)
        per_report: dict[str, list[float]] = {}
        for n in range(order):
            per_report[f"bleu_{n + 1}"] = [float(value) for value in reports[n]]
            per_report[f"bleu_correct_{n + 1}"] = [float(counts["correct"][n]) for counts in scorer.ctest]
            per_report[f"bleu_guess_{n + 1}"] = [float(counts["guess"][n]) for counts in scorer.ctest]
        per_report["bleu_length"] = [float(counts["testlen"]) for counts in scorer.ctest]
        per_report["bleu_reference_length"] = [_closest(counts) for counts in scorer.ctest]
        return {f"bleu_{n + 1}": float(value) for n, value in enumerate(corpus)} | {"per_report": per_report}


def _closest(counts: dict[str, Any]) -> float:
    """The reference length nearest to the prediction's; of two as near, the shorter."""
    return float(min((abs(length - counts["testlen"]), length) for length in counts["reflen"])[1])
