"""BERTScore: words matched by the cosine of a language model's hidden states (arXiv 1904.09675)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from r2g.core.checks import Checks, at_least
from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._models import WeightsMissing, device, encoded, from_source
from r2g.metrics.base import Metric

_REMEDY = "set bertscore's source to the directory, or the hub id, of an encoder such as roberta-large"


@METRICS.register("bertscore")
@dataclass(frozen=True)
class BertScore(Metric):
    """Gives bertscore_precision, _recall and _f1: means over the reports, without idf or rescaling.

    `source` is a model's directory or hub id, `layer` the one whose hidden states are compared (0: the embeddings).
    The start and end symbols can be matched but don't count, as in the published code. Empty reports score 0.
    """

    slow: ClassVar[bool] = True
    source: str | None
    layer: int
    batch_size: int

    def __post_init__(self) -> None:
        check = Checks(self).each(("layer",), at_least(0), "must not be negative")
        check.each(("batch_size",), at_least(1), "must be at least 1").done()

    @property
    def names(self) -> tuple[str, ...]:
        return ("bertscore_precision", "bertscore_recall", "bertscore_f1")

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        if not predictions:
            return Scores(absent="no reports to score")
        try:
            tokenizer, network = from_source(self._load, self.source, _REMEDY)
        except WeightsMissing as error:
            return Scores(absent=str(error))
        texts = list(dict.fromkeys(text for p in predictions for text in (p.hypothesis, p.reference)))
        states = dict(zip(texts, self._states(tokenizer, network, texts), strict=True))
        rows = [_match(states[p.hypothesis], states[p.reference]) for p in predictions]
        per_report = {name: [row[i] for row in rows] for i, name in enumerate(self.names)}
        return Scores({name: sum(v) / len(v) for name, v in per_report.items()}, per_report)

    def _load(self, source: str) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        network = AutoModel.from_pretrained(source, trust_remote_code=False).to(device()).eval()
        layers = network.config.num_hidden_layers
        if self.layer > layers:
            raise ValueError(f"{source} has {layers} layers, and bertscore's layer is {self.layer}")
        return AutoTokenizer.from_pretrained(source), network

    def _states(self, tokenizer: Any, network: Any, texts: Sequence[str]) -> list[tuple[Any, Any]]:
        """For each text its unit vectors [token, width], and which of the tokens count."""
        import torch

        found: list[Any] = [None] * len(texts)
        special = torch.tensor(tokenizer.all_special_ids)
        for places, batch in encoded(tokenizer, texts, self.batch_size):
            with torch.no_grad():
                hidden = network(**batch, output_hidden_states=True).hidden_states[self.layer]
            vectors = torch.nn.functional.normalize(hidden.float(), dim=-1).cpu()
            ids, mask = batch["input_ids"].cpu(), batch["attention_mask"].bool().cpu()
            for row, place in enumerate(places):
                kept = ids[row][mask[row]]
                found[place] = (vectors[row][mask[row]], ~torch.isin(kept, special))
        return found


def _match(written: tuple[Any, Any], wanted: tuple[Any, Any]) -> tuple[float, float, float]:
    """Precision, recall and F1 of each token's best match on the other side."""
    if not written[1].any() or not wanted[1].any():
        return 0.0, 0.0, 0.0
    cosines = written[0] @ wanted[0].T
    precision = cosines.max(dim=1).values[written[1]].mean().item()
    recall = cosines.max(dim=0).values[wanted[1]].mean().item()
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0
