"""RadGraph F1: entities and relations that the package `radgraph` reads in both reports (arXiv 2106.14463)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from r2g.core.slots import METRICS
from r2g.core.types import Prediction, Scores
from r2g.metrics._models import WeightsMissing
from r2g.metrics.base import Metric

_LEVELS = ("simple", "partial", "complete")
_HUB = "StanfordAIMI/RRG_scorers"


@METRICS.register("radgraph")
@dataclass(frozen=True)
class RadGraph(Metric):
    """Gives radgraph_simple, _partial and _complete: means over the reports; 0 where a side is empty.

    `source` is a folder in which the model lies unpacked under its name, or the hub id that has its archive.
    """

    slow: ClassVar[bool] = True
    source: str | None
    model: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"radgraph_{level}" for level in _LEVELS)

    def score(self, predictions: Sequence[Prediction]) -> Scores:
        if not predictions:
            return Scores(absent="no reports to score")
        try:
            scorer = self._load()
        except WeightsMissing as error:
            return Scores(absent=str(error))
        pairs = [[" ".join(text.split()) for text in (p.reference, p.hypothesis)] for p in predictions]
        if not any(all(pair) for pair in pairs):  # the package fails when it has nothing to read
            return self._scores([[0.0] * len(pairs) for _ in _LEVELS])
        rewards = scorer(refs=[pair[0] for pair in pairs], hyps=[pair[1] for pair in pairs])[1]
        return self._scores([[float(value) for value in level] for level in rewards])

    def _scores(self, values: list[list[float]]) -> Scores:
        per_report = dict(zip(self.names, values, strict=True))
        return Scores({name: sum(v) / len(v) for name, v in per_report.items()}, per_report)

    def _load(self) -> Any:
        archive = f"{self.model}.tar.gz"
        remedy = (
            f"get {archive} ({_HUB} on the hub), unpack it into a folder FOLDER/{self.model} and set radgraph's source "
            "to FOLDER"
        )
        if self.source is None:
            raise WeightsMissing(f"no weights given; {remedy}")
        folder = Path(self.source).expanduser()
        try:
            import radgraph
        except ImportError as error:
            raise WeightsMissing(f"the extra `radgraph` is not installed ({error}); then {remedy}") from error
        if self.source != _HUB and not (folder / self.model / "config.json").is_file():
            raise WeightsMissing(f"there is no {folder / self.model / 'config.json'}; {remedy}")
        where = {} if self.source == _HUB else {"model_cache_dir": str(folder)}
        try:
            return radgraph.F1RadGraph(reward_level="all", model_type=self.model, **where)
        # The package raises bare exceptions when a download fails; its tokenizer is another one.
        except Exception as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise WeightsMissing(
                f"the package radgraph could not load its model ({told}); {remedy}"
            ) from error
