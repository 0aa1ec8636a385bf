"""Plain data that crosses module borders; no torch here."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

SPLITS = ("train", "val", "test")


class Cleaner(Enum):
    """How report text is normalized before training and scoring; see `r2g.datasets._clean`."""

    none = "none"
    iu = "iu"
    mimic_r2gengpt = "mimic_r2gengpt"
    mimic_r2gen = "mimic_r2gen"


class Section(Enum):
    """Which part of the original report the data holds; `as_given`: whichever it is, nobody says."""

    as_given = "as_given"
    findings = "findings"
    impression = "impression"
    both = "both"


class Labeller(Enum):
    """What reads the CheXpert observations of a report: our rules, the CheXbert network, or CheXpert's own tool."""

    rules = "rules"
    chexbert = "chexbert"
    chexpert = "chexpert"


@dataclass(frozen=True)
class Prediction:
    """One study's report as written and as the radiologist wrote it.

    `labels` are the study's known findings (phantom data), or None where nobody knows them.
    """

    id: str
    reference: str
    hypothesis: str
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scores:
    """What one metric says: corpus values, one value a report, and why it is absent if it is.

    Corpus values are not means of the per-report ones (BLEU and CIDEr are corpus statistics). A metric that reads
    labels gives them as `tables` (r2g.core.labels.LabelTable; numpy stays out of this module).
    """

    corpus: dict[str, float] = field(default_factory=dict)
    per_report: dict[str, list[float]] = field(default_factory=dict)
    absent: str | None = None
    tables: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations for one training sample; a multiply and an add are two."""

    forward: int
    backward: int
