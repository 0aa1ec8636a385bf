"""What every metric is: settings that score a list of predictions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from r2g.core.types import Labeller, Prediction, Scores


@dataclass(frozen=True)
class Metric(ABC):
    """Settings of one metric."""

    kind: ClassVar[str]
    slow: ClassVar[bool] = False
    """Seconds for each call, whatever is scored: left out of controls and validation unless it selects."""
    labeller: ClassVar[Labeller | None] = None
    """What reads the CheXpert observations that it counts, if it counts them."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The corpus scores that it gives for any data: what train.select may name."""

    @abstractmethod
    def score(self, predictions: Sequence[Prediction]) -> Scores:
        """Corpus and per-report scores; `Scores(absent=why)` when something that it needs is missing."""

    def score_all(self, tables: Sequence[Sequence[Prediction]]) -> list[Scores]:
        """The same for several runs' predictions; a slow metric overrides it, to start once for all of them."""
        return [self.score(predictions) for predictions in tables]
