"""No tracking: the record's own files are all that a run leaves."""

from dataclasses import dataclass

from r2g.core.slots import TRACKERS
from r2g.trackers._guard import Backend, Guarded
from r2g.trackers.base import RunIdentity, Tracker


@TRACKERS.register("none")
@dataclass(frozen=True)
class NoTracker(Tracker):
    """Takes everything and keeps nothing."""

    def build(self, identity: RunIdentity) -> Guarded:  # noqa: ARG002
        return Guarded(_Nothing())


class _Nothing(Backend):
    name = "none"

    @property
    def tracker(self) -> None:
        return None
