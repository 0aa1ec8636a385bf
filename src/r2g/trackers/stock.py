"""Any other tracker that Accelerate knows, by its name."""

from dataclasses import dataclass

from r2g.core.registry import nearest
from r2g.core.slots import TRACKERS
from r2g.trackers._guard import Guarded
from r2g.trackers._stock import LOGGERS, Stock
from r2g.trackers.base import RunIdentity, Tracker


@TRACKERS.register("stock")
@dataclass(frozen=True)
class StockTracker(Tracker):
    """`logger` is Accelerate's name (mlflow, comet_ml, aim, ...); its package must be installed."""

    logger: str

    def __post_init__(self) -> None:
        if self.logger not in LOGGERS:
            hint = nearest(self.logger, list(LOGGERS))
            raise ValueError(f"unknown logger '{self.logger}'{hint} (choices: {', '.join(LOGGERS)})")

    def build(self, identity: RunIdentity) -> Guarded:
        return Guarded(Stock(self.logger, identity))
