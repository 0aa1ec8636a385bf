"""What every dataset is: settings that yield studies in three splits."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import datasets

from r2g.core.types import Cleaner as Cleaner
from r2g.core.types import Section as Section

# What `load` gives is a datasets.DatasetDict; the hints say this much of it, because run-time type checkers
# trip over the forward reference in DatasetDict itself.
Splits = dict[str, datasets.Dataset]


@dataclass(frozen=True)
class Dataset(ABC):
    """Settings of one source of studies.

    `load` gives the splits train, val and test with the columns id (str), report (str, cleaned), image_path
    (list[str], absolute), labels (list[str], or None where unknown) and patient (str, or None).
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def shareable(self) -> bool:
        """May texts and pictures of this data be shown in reports and thumbnails?"""

    @property
    @abstractmethod
    def views(self) -> int:
        """The most views of one study that are used."""

    def originals(self) -> dict[str, dict[str, str]] | None:
        """All reports by split and id, uncleaned, if they can be had without any file; else None."""
        return None

    @abstractmethod
    def load(self, cache: Path, seed: int) -> Splits:
        """The three splits. Raises FileNotFoundError that says where the data can be had."""
