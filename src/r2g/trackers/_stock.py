"""Accelerate's own trackers behind our interface."""

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType

from r2g.trackers._guard import Backend
from r2g.trackers.base import RunIdentity

LOGGERS = tuple(sorted(set(LOGGER_TYPE_TO_CLASS) - {"wandb"}))
"""Their names. W&B has a tracker of ours, since two of the stock one in a process share a run."""


class Stock(Backend):
    """One of Accelerate's trackers; text and pictures don't go to it."""

    def __init__(self, logger: str, identity: RunIdentity) -> None:
        if LoggerType(logger) not in get_available_trackers():
            raise RuntimeError(
                f"the package of tracker '{logger}' is not installed; install it, or track=none"
            )
        self.name = logger
        cls = LOGGER_TYPE_TO_CLASS[logger]
        folder = {"logging_dir": f"{identity.folder}/{logger}"} if cls.requires_logging_directory else {}
        self._inner = cls(identity.id, **folder)
        super().__init__()

    @property
    def tracker(self) -> Any:
        return self._inner.tracker

    def start(self) -> None:
        self._inner.start()

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._inner.store_init_configuration(_flat(values))

    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        self._inner.log({k: v for k, v in values.items() if v is not None}, step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        self.log(values)

    def replay(self, entries: Sequence[Mapping[str, Any]]) -> None:
        for entry in entries:
            self.log(entry, step=int(entry["step"]))

    def finish(self) -> None:
        self._inner.finish()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; what is neither a number nor a text becomes a text."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, int | float | str) else str(value)
    return found
