"""r2g.run with faults: with FAULTS set, seeds 4 to 7 fail in their second validation, each in its own way.

With SCARCE set, more than two arms' batches at once are more than memory can hold.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from r2g import gang, run, step


def _raise() -> None:
    raise ValueError("this arm raises")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_FAULTS = {4: _raise, 5: lambda: sys.exit("this arm exits"), 6: _kill, 7: lambda: time.sleep(600)}


def _faulty(runs: Sequence[Any], arms: Sequence[Any]) -> Any:
    calls.append(1)
    if len(calls) == 2 and runs[0].config.seed in _FAULTS:
        _FAULTS[runs[0].config.seed]()
    return validate(runs, arms)


def _scarce(turns: Sequence[Any], i: int, accelerator: Any) -> None:
    if len(turns) > 2:
        torch.empty(2**60)
    go(turns, i, accelerator)


if __name__ == "__main__":
    calls: list[int] = []
    if "FAULTS" in os.environ:
        validate, gang.validate = gang.validate, _faulty
    if "SCARCE" in os.environ:
        go, step._round = step._round, _scarce
    run.main()
