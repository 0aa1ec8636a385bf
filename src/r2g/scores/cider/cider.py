"""CIDEr-D as coco-caption computes it: document frequencies of these references, sigma 6, times 10."""

from typing import Any

import datasets
import evaluate
import pycocoevalcap.cider.cider

_INPUTS = """
Args:
    predictions: the reports as written, one text each.
    references: one text, or a list of texts, for each report.
Returns:
    cider: the mean over the reports; 10 at most. One report alone scores 0, since every word of its
        reference is then in every document.
    per_report: cider of each report, given all references.
"""
_CITATION = """
@inproceedings{vedantam2015cider,
    title = {CIDEr: Consensus-based Image Description Evaluation},
    author = {Vedantam, Ramakrishna and Zitnick, C. Lawrence and Parikh, Devi},
    booktitle = {CVPR}, year = {2015}
}
"""


class Cider(evaluate.Metric):
    """Mean CIDEr-D with the value of each report."""

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
        written = {i: [text] for i, text in enumerate(predictions)}
        wanted = {i: [refs] if isinstance(refs, str) else refs for i, refs in enumerate(references)}
        if any(text.split() for texts in wanted.values() for text in texts):
            scores = pycocoevalcap.cider.cider.Cider().compute_score(wanted, written)[1]
        else:  # the library fails when no reference has a word
            scores = [0.0] * len(predictions)
        values = [float(score) for score in scores]
        return {"cider": sum(values) / len(values), "per_report": {"cider": values}}
