"""ROUGE-L as coco-caption computes it: longest common subsequence, F with beta 1.2, mean of reports."""

from typing import Any

import datasets
import evaluate
from pycocoevalcap.rouge.rouge import Rouge

_INPUTS = """
Args:
    predictions: the reports as written, one text each.
    references: one text, or a list of texts, for each report; the best precision and the best recall count.
Returns:
    rouge_l: the mean over the reports, in [0, 1]. A report whose prediction or references are empty scores 0.
    per_report: rouge_l of each report.
"""
_CITATION = """
@inproceedings{lin2004rouge,
    title = {ROUGE: A Package for Automatic Evaluation of Summaries},
    author = {Lin, Chin-Yew},
    booktitle = {Text Summarization Branches Out}, year = {2004}
}
"""


class RougeL(evaluate.Metric):
    """Mean ROUGE-L with the value of each report."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        formats: list[Any] = [datasets.Sequence(text), text]
        return evaluate.MetricInfo(
            description=str(__doc__),
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[datasets.Features({"predictions": text, "references": f}) for f in formats],
        )

    def _compute(self, predictions: list[str], references: list[Any]) -> dict[str, Any]:
        values = [
            _score(text, [refs] if isinstance(refs, str) else refs)
            for text, refs in zip(predictions, references, strict=True)
        ]
        return {"rouge_l": sum(values) / len(values), "per_report": {"rouge_l": values}}


def _score(text: str, references: list[str]) -> float:
    # The library splits at single spaces: two would make an empty token, and two empty texts would agree.
    text, references = " ".join(text.split()), [" ".join(r.split()) for r in references]
    return float(Rouge().calc_score([text], references)) if text else 0.0
