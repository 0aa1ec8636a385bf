"""r2g.run with faults: with FAULTS set, seeds 4 to 7 fail in their second validation, each in its own way."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from r2g import run, session


def _raise() -> None:
    raise ValueError("this arm raises")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_FAULTS = {4: _raise, 5: lambda: sys.exit("this arm exits"), 6: _kill, 7: lambda: time.sleep(600)}


def _faulty(config: Any, setup: Any) -> Callable[[], dict[str, float]]:
    validate, calls = _validator(config, setup), []

    def validate_or_fail() -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2 and config.seed in _FAULTS:
            _FAULTS[config.seed]()
        return validate()

    return validate_or_fail


if __name__ == "__main__":
    if "FAULTS" in os.environ:
        _validator, session.validator = session.validator, _faulty
    run.main()
