"""Between a run and its tracker: numbers only, on the main process only, and no failure comes through."""

import logging
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import GeneralTracker

_LOG = logging.getLogger(__name__)


class Backend(GeneralTracker):
    """What a tracker of ours can do beyond Accelerate's; what it can't is left out."""

    requires_logging_directory = False

    def summary(self, values: Mapping[str, Any]) -> None:
        """The run's closing figures."""

    def replay(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """A resumed run's curve so far; each entry has a `step`."""

    def log_text(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table that may hold report text; for a tracker that was told to send it."""

    def log_images(self, name: str, images: Sequence[Any]) -> None:
        """Pictures that may be patients'; for a tracker that was told to send them."""

    def close(self, failed: bool) -> None:  # noqa: ARG002
        """The end, in success or failure."""
        self.finish()


class Guarded(GeneralTracker):
    """A tracker whose failure doesn't stop a run. Processes other than the main one log nothing.

    Usable through Accelerate (`log_with=`, then `init_trackers`, `log`, `end_training`) or on its own, from
    `start` on: several can live in one process.
    """

    requires_logging_directory = False

    def __init__(self, backend: Backend) -> None:
        self.name: str = backend.name
        self._backend = backend
        self._warned = self._closed = False
        super().__init__()

    @property
    def tracker(self) -> Any:
        """The library's own object; None before `start`, or when that failed."""
        return self._backend.tracker

    def start(self) -> None:
        self._try("start", self._backend.start)

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """The run's settings; nested groups are fine."""
        self._try("store the settings", lambda: self._backend.store_init_configuration(dict(values)))

    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """One point of the curves. Raises TypeError for all but numbers: text goes through `log_text`."""
        numbers = _numbers(values)
        self._try("log", lambda: self._backend.log(numbers, step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        """The run's closing figures: numbers, None where there is none. Raises TypeError for others."""
        numbers = _numbers(values)
        self._try("write the summary", lambda: self._backend.summary(numbers))

    def replay(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Feed a resumed run's curve so far, as it stands in curve.jsonl, so that one run holds all of it."""
        numbers = [_numbers(entry) for entry in entries]
        self._try("replay the curve", lambda: self._backend.replay(numbers))

    def log_text(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table with report text; goes nowhere unless the tracker's settings say so."""
        self._try("log text", lambda: self._backend.log_text(name, columns, rows))

    def log_images(self, name: str, images: Sequence[Any]) -> None:
        """Pictures; they go nowhere unless the tracker's settings say so."""
        self._try("log pictures", lambda: self._backend.log_images(name, images))

    def finish(self, failed: bool = False) -> None:
        """Close the run; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._try("finish", lambda: self._backend.close(failed))

    def _try(self, what: str, action: Callable[[], None]) -> None:
        if not PartialState().is_main_process:
            return
        try:
            action()
        # The one place where any error is held back: hours of training are worth more than their log, and
        # curve.jsonl and record.json hold all that a tracker is told.
        except Exception as error:
            if not self._warned:
                self._warned = True
                told = f"{type(error).__name__}: {error}"
                _LOG.warning("tracker '%s' failed to %s; the run goes on (%s)", self.name, what, told)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    odd = {k: type(v).__name__ for k, v in values.items() if not (v is None or isinstance(v, Real))}
    if odd:
        raise TypeError(f"a tracker takes numbers only, not {odd}")
    return dict(values)
