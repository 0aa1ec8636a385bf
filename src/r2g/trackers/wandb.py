"""Weights & Biases: one W&B run for each run of ours, offline unless told, numbers only unless told."""

from dataclasses import dataclass
from enum import Enum

from r2g.core.slots import TRACKERS
from r2g.trackers._guard import Guarded
from r2g.trackers._wandb import WandbRun
from r2g.trackers.base import RunIdentity, Tracker


class Mode(Enum):
    """Where a W&B run goes: to files (`wandb sync` sends them), or to the server as it happens."""

    offline = "offline"
    online = "online"


@TRACKERS.register("wandb")
@dataclass(frozen=True)
class Wandb(Tracker):
    """`patience` bounds in seconds the wait for the server, at the start and at the end."""

    mode: Mode
    project: str
    entity: str | None
    send_text: bool
    send_images: bool
    patience: float

    def __post_init__(self) -> None:
        if self.patience <= 0:
            raise ValueError(f"patience must be above 0, got {self.patience}")

    def build(self, identity: RunIdentity) -> Guarded:
        return Guarded(
            WandbRun(
                identity,
                online=self.mode is Mode.online,
                project=self.project,
                entity=self.entity,
                send_text=self.send_text,
                send_images=self.send_images,
                patience=self.patience,
            )
        )
