"""CheXbert F1: what a BERT that labels chest X-ray reports finds in both reports (arXiv 2004.09167)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from r2g.core.checks import Checks, at_least
from r2g.core.slots import METRICS
from r2g.core.types import Labeller, Prediction, Scores
from r2g.metrics._models import WeightsMissing, device, encoded, file_from, from_source
from r2g.metrics.base import Metric

# The order of the network's heads; each says blank, positive, negative or uncertain, the last blank or positive.
OBSERVATIONS = (
    "enlarged_cardiomediastinum",
    "cardiomegaly",
    "lung_opacity",
    "lung_lesion",
    "edema",
    "consolidation",
    "pneumonia",
    "atelectasis",
    "pneumothorax",
    "pleural_effusion",
    "pleural_other",
    "fracture",
    "support_devices",
    "no_finding",
)
FIVE = ("cardiomegaly", "edema", "consolidation", "atelectasis", "pleural_effusion")
_POSITIVE = {"uncertain_negative": (1,), "uncertain_positive": (1, 3)}
_SETS = {"14": OBSERVATIONS, "5": FIVE}
_FILE = "chexbert.pth"
_REMEDY = (
    f"get {_FILE} (StanfordAIMI/RRG_scorers on the hub) and set chexbert's source to the file, its folder or that "
    "hub id, and its backbone to a directory, or the hub id, of bert-base-uncased"
)


@METRICS.register("chexbert")
@dataclass(frozen=True)
class CheXbert(Metric):
    """Gives chexbert_<micro or macro>_<14 or 5>_<uncertain_negative or uncertain_positive>, against the reference.

    Macro is the mean over all labels of the set; 0/0 is 0. Per report: hits, false and missed labels for each.
    """

    slow: ClassVar[bool] = True
    labeller: ClassVar[Labeller | None] = Labeller.chexbert
    source: str | None
    backbone: str
    batch_size: int

    def __post_init__(self) -> None:
        Checks(self).each(("batch_size",), at_least(1), "must be at least 1").done()

    @property
    def names(self) -> tuple[str, ...]:
        means = ("micro", "macro")
        return tuple(f"chexbert_{mean}_{size}_{how}" for mean in means for size in _SETS for how in _POSITIVE)

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        if not predictions:
            return Scores(absent="no reports to score")
        try:
            tokenizer, network, heads = from_source(self._load, self.source, _REMEDY)
        except WeightsMissing as error:
            return Scores(absent=str(error))
        sides = ([p.hypothesis for p in predictions], [p.reference for p in predictions])
        written, wanted = (self._classes(tokenizer, network, heads, texts) for texts in sides)
        corpus: dict[str, float] = {}
        per_report: dict[str, list[float]] = {}
        for size, labels in _SETS.items():
            columns = [OBSERVATIONS.index(label) for label in labels]
            for how, positive in _POSITIVE.items():
                found, known = (np.isin(side[:, columns], positive) for side in (written, wanted))
                parts = {"hits": found & known, "false": found & ~known, "missed": known & ~found}
                corpus[f"chexbert_micro_{size}_{how}"] = float(_f1(*(p.sum() for p in parts.values())))
                by_label = _f1(*(p.sum(axis=0) for p in parts.values()))
                corpus[f"chexbert_macro_{size}_{how}"] = float(by_label.mean())
                for name, part in parts.items():
                    per_report[f"chexbert_{name}_{size}_{how}"] = part.sum(axis=1).astype(float).tolist()
        return Scores(corpus, per_report)

    def _load(self, source: str) -> tuple[Any, Any, Any]:
        import torch
        from transformers import AutoConfig, AutoTokenizer, BertModel

        network = BertModel(AutoConfig.from_pretrained(self.backbone)).eval()
        widths = [4] * (len(OBSERVATIONS) - 1) + [2]
        heads = torch.nn.ModuleList([torch.nn.Linear(network.config.hidden_size, width) for width in widths])
        whole = torch.nn.ModuleDict({"bert": network, "linear_heads": heads})
        content = torch.load(file_from(source, _FILE), map_location="cpu", weights_only=True)
        weights = {name.removeprefix("module."): value for name, value in content["model_state_dict"].items()}
        # Old transformers kept the positions as a buffer; they are no weights.
        weights.pop("bert.embeddings.position_ids", None)
        _fill(whole, weights, f"{source} doesn't fit {self.backbone}")
        whole.to(device())
        return AutoTokenizer.from_pretrained(self.backbone), network, heads

    def _classes(self, tokenizer: Any, network: Any, heads: Any, texts: Sequence[str]) -> np.ndarray:
        """[report, observation]: 0 blank, 1 positive, 2 negative, 3 uncertain."""
        import torch

        classes = np.zeros((len(texts), len(OBSERVATIONS)), dtype=int)
        for places, batch in encoded(tokenizer, [" ".join(text.split()) for text in texts], self.batch_size):
            with torch.no_grad():
                first = network(**batch).last_hidden_state[:, 0]
                classes[places] = (
                    torch.stack([head(first).argmax(dim=1) for head in heads], dim=1).cpu().numpy()
                )
        return classes


def _fill(network: Any, weights: dict[str, Any], misfit: str) -> None:
    """Load all weights. Raises ValueError with the first names that differ."""
    here = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in weights.items()}
    names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if names:
        raise ValueError(f"{misfit}: {len(names)} weights differ, such as {', '.join(names[:3])}")
    network.load_state_dict(weights)


def _f1(hits: Any, false: Any, missed: Any) -> Any:
    return 2 * hits / np.maximum(2 * hits + false + missed, 1)
