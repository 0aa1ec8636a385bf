"""SIGTERM and Ctrl-C: noted where work would be lost, heard at once where it can be done again."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_TOLD = b"\nfinishing the step and saving; Ctrl-C again ends at once\n"


class Interrupted(BaseException):
    """The run was asked to stop (SIGTERM, SIGINT); what it needs to go on has been saved.

    Not an Exception: code that takes an error for one run's failure, beside others, must let this one through.
    """


class Terminable:
    """While inside, SIGTERM and SIGINT are noted in `flag`, and heard at once only where `at_once` says so.

    One that came too late to stop anything here is passed on to who listened before. A second Ctrl-C ends at once.
    """

    def __init__(self) -> None:
        self.flag = False
        self._number = signal.SIGTERM
        self._doing: str | None = None

    def __enter__(self) -> "Terminable":
        self._process = os.getpid()
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as a shell starts what runs behind it
        numbers = [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGINT]
        self._old = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, listened in self._old.items():
            signal.signal(number, listened)
        if self.flag and kind is None:
            os.kill(os.getpid(), self._number)

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

    def _note(self, number: int, _: object) -> None:
        again, self.flag, self._number = self.flag, True, signal.Signals(number)
        if os.getpid() != self._process:  # a loader's worker inherits this, and ends with its parent
            return
        self._stop()
        if number == signal.SIGINT:
            if again:
                raise KeyboardInterrupt
            os.write(2, _TOLD)

    def _stop(self) -> None:
        doing, self._doing = self._doing, None
        if doing is not None:
            raise Interrupted(f"asked to stop while {doing}")
