"""SIGTERM: noted where work would be lost, heard at once where it can be done again."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(BaseException):
    """The run was asked to stop (SIGTERM); what it needs to go on has been saved.

    Not an Exception: code that takes an error for one run's failure, beside others, must let this one through.
    """


class Terminable:
    """While inside, SIGTERM is noted in `flag`, and heard at once only where `at_once` says so.

    One that came too late to stop anything here is passed on to who listened before.
    """

    def __init__(self) -> None:
        self.flag = False
        self._doing: str | None = None

    def __enter__(self) -> "Terminable":
        self._process = os.getpid()
        self._old = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._old)
        if self.flag and kind is None:
            os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def at_once(self, doing: str) -> Iterator[None]:
        """Raise Interrupted when the signal comes, or has come. `doing` says what is left undone."""
        self._doing = doing
        try:
            if self.flag:
                self._stop()
            yield
        finally:
            self._doing = None

    def _note(self, *_: object) -> None:
        self.flag = True
        if os.getpid() == self._process:  # a loader's worker inherits this, and ends with its parent
            self._stop()

    def _stop(self) -> None:
        doing, self._doing = self._doing, None
        if doing is not None:
            raise Interrupted(f"asked to stop while {doing}")
