"""What every tracker is: settings that give Accelerate something to log with."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class RunIdentity:
    """How a run is filed by a tracker: `id` is the record's, `group` the arm's."""

    id: str
    name: str
    group: str
    tags: tuple[str, ...]
    job_type: str
    folder: str


@dataclass(frozen=True)
class Tracker(ABC):
    """Settings of one tracker."""

    kind: ClassVar[str]

    @abstractmethod
    def build(self, identity: RunIdentity) -> Any:
        """What `Accelerator(log_with=...)` takes: a name, a GeneralTracker, or None for no tracking."""
