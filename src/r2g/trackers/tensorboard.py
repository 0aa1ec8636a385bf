"""TensorBoard, in the run's own folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2g.core.slots import TRACKERS
from r2g.trackers._guard import Guarded
from r2g.trackers._stock import Stock
from r2g.trackers.base import RunIdentity, Tracker


@TRACKERS.register("tensorboard")
@dataclass(frozen=True)
class TensorBoard(Tracker):
    """Event files under <run>/tensorboard; numbers only."""

    def build(self, identity: RunIdentity) -> Guarded:
        return Guarded(_TensorBoard("tensorboard", identity))


class _TensorBoard(Stock):
    def replay(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Nothing to do: TensorBoard reads all event files of a folder as one run, flushed at each log."""
