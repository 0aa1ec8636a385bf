"""What every tracker is: settings that give a run, and Accelerate, something to log with."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from r2g.trackers._guard import Guarded


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
    def build(self, identity: RunIdentity) -> Guarded:
        """What `Accelerator(log_with=...)` takes; nothing is opened before `start`, which Accelerate calls.

        Raises RuntimeError when the tracker's package is not installed.
        """
