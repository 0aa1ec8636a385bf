"""Arms as child processes: started, watched, ended in time, and read once they are gone."""

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from hydra_plugins.r2g_process_launcher._seat import Seat
from r2g.core.beside import told_to_a_run
from r2g.core.outcome import GOOD, forget_outcome, read_outcome

_LOG = logging.getLogger(__name__)
_PAUSE = 0.1  # seconds between two looks at the children
_LOG_FILE = "output.log"


@dataclass(frozen=True)
class Arm:
    """A job: its number in the sweep, what sets it apart, its command line, and Hydra's folder for it."""

    number: int
    title: str
    command: list[str]
    folder: Path


@dataclass(frozen=True)
class End:
    """How an arm ended; `status` is an outcome's, or `killed`, `timed out`, `stopped`, `not started`."""

    status: str
    seconds: float = 0.0
    record: str | None = None
    error: str | None = None
    objective: float | None = None

    @property
    def good(self) -> bool:
        """Is its record there, or has a search done with it?"""
        return self.status in GOOD


@dataclass
class _Child:
    arm: Arm
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]
    seat: Seat
    began: float
    told: float | None = None  # when it was asked to end
    late: bool = False

    def ask_to_end(self) -> None:
        """SIGTERM: a run in training writes a checkpoint and ends."""
        self.told = self.told or time.monotonic()
        self.process.terminate()

    def kill(self) -> None:
        """At once, and with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Signals:
    """While inside, SIGINT and SIGTERM are noted instead of ending this process at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.count = 0

    def __enter__(self) -> "Signals":
        self._old = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        self.number, self.count = number, self.count + 1


@dataclass(frozen=True)
class Terms:
    """Under which arms run here: seconds for each, seconds between being asked to end and the kill.

    A file `stop` asks all to end: how a launcher reaches workers on other machines. With `gpus`, each arm has one of
    these to itself, and waits until one is free. `beside`: how many others may compute on the
    same device meanwhile.
    """

    limit: float | None
    grace: float
    stop: Path | None = None
    gpus: tuple[str, ...] = ()
    beside: int = 0

    def shared_by(self, arms: int) -> "Terms":
        """The same for so many arms at once on one machine: beside each other, unless each has a GPU to itself."""
        return self if self.gpus else replace(self, beside=max(0, arms - 1))

    def stopping(self) -> bool:
        """Has the launcher left word to end?"""
        return self.stop is not None and self.stop.exists()


def run_all(arms: Sequence[Arm], parallel: int, terms: Terms) -> tuple[list[End], int | None]:
    """Run the arms, `parallel` at once, in their order; give their ends in that order.

    An arm whose time is over is asked to end by SIGTERM and killed when its grace is. So are all when this process
    gets SIGINT or SIGTERM (its number is given too); at a second one they are killed at once.
    """
    waiting, under_way = list(arms), list[_Child]()
    ends = {arm.number: End("not started") for arm in arms}
    with Signals() as signals:
        stopping = False
        while under_way or (waiting and not stopping):
            stopping = stopping or signals.number is not None or terms.stopping()
            while waiting and len(under_way) < parallel and not stopping and (seat := Seat.free(terms.gpus)):
                under_way.append(_start(waiting.pop(0), seat, terms.beside))
            for child in list(under_way):
                if child.process.poll() is not None:
                    under_way.remove(child)
                    ends[child.arm.number] = _end(child, stopping)
                else:
                    _press(child, stopping, signals.count > 1, terms)
            time.sleep(_PAUSE)
    return [ends[arm.number] for arm in arms], signals.number


def _start(arm: Arm, seat: Seat, beside: int) -> _Child:
    arm.folder.mkdir(parents=True, exist_ok=True)
    forget_outcome(arm.folder)  # of an earlier sweep in the same hydra.sweep.dir
    path = arm.folder / _LOG_FILE
    log = path.open("wb")
    log.write(f"$ {shlex.join(arm.command)}\n".encode())
    log.flush()
    # a session of its own: Ctrl-C reaches this process alone, which passes it on as SIGTERM
    process = subprocess.Popen(
        arm.command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_follow_parent(),
        env={**os.environ, **seat.environment(), **told_to_a_run(beside)},
    )
    _LOG.info("#%d starts: %s (%s)", arm.number, arm.title, path)
    return _Child(arm, process, log, seat, time.monotonic())


def _follow_parent() -> Callable[[], None] | None:
    """On Linux, a child gets SIGTERM when this process is killed, so that no arm is left behind unwatched."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG


def _press(child: _Child, stopping: bool, at_once: bool, terms: Terms) -> None:
    """Ask an arm to end, or kill it, if its time has come."""
    now = time.monotonic()
    if terms.limit is not None and child.told is None and now - child.began > terms.limit:
        child.late = True
        child.ask_to_end()
    if stopping and child.told is None:
        child.ask_to_end()
    if at_once or (child.told is not None and now - child.told > terms.grace):
        child.kill()


def _end(child: _Child, stopping: bool) -> End:
    """Read what a child left that has ended."""
    child.kill()  # what it started and left behind
    child.log.close()
    child.seat.leave()
    seconds = time.monotonic() - child.began
    outcome, code = read_outcome(child.arm.folder), child.process.returncode
    asked = " after it was asked to end" if child.told is not None else ""
    record, told = (outcome.record, outcome.error) if outcome is not None else (None, None)
    if outcome is not None and outcome.status in GOOD and code == 0:
        end = End(outcome.status, seconds, record, None, outcome.objective)
    else:
        status = "timed out" if child.late else "stopped" if stopping else "killed" if code < 0 else "failed"
        end = End(status, seconds, record, told or _reason(child.arm.folder / _LOG_FILE, code) + asked)
    _LOG.info(
        "#%d %s after %.0f s%s", child.arm.number, end.status, seconds, f": {end.error}" if end.error else ""
    )
    return end


def _reason(log: Path, code: int) -> str:
    """What a child says that could not tell its own error."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = (line.strip() for line in reversed(log.read_text(errors="replace").splitlines()[1:]))
    last = next((line for line in lines if line and "HYDRA_FULL_ERROR" not in line), "no output")
    return last if code else f"exited before its record was finished; its last line: {last}"
