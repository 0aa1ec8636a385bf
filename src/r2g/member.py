"""A run on its way from settings to record, beside others or alone; its failure is its own."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from r2g import record, session
from r2g.config.schema import RunConfig
from r2g.core.lock import Held, Lock
from r2g.core.memory import Peak
from r2g.core.stopping import Interrupted
from r2g.halving import Halved
from r2g.session import RunFailed, Setup
from r2g.step import Arm

T = TypeVar("T")


@dataclass(frozen=True)
class End:
    """How a run ended: `finished`, `already there`, `failed`, `stopped` or `halved`; its record, and its error.

    `best` is its best validation selection, also of one that a search left behind.
    """

    status: str
    record: Path
    error: RunFailed | None = None
    best: float | None = None


@dataclass(eq=False)
class Run:
    """A run on its way; `end` is there once it is over."""

    config: RunConfig
    folder: record.RunFolder
    frame: dict[str, Any]
    accelerator: Accelerator
    started: float = field(default_factory=time.time)
    setup: Setup | None = None
    arm: Arm | None = None
    tracker: Any = None
    peak: Peak | None = None
    end: End | None = None

    def __post_init__(self) -> None:
        self._lock = Lock(self.folder.partial)

    @property
    def ready(self) -> Setup:
        if self.setup is None:
            raise RuntimeError(f"{self.folder.final} isn't prepared")
        return self.setup

    def hold(self) -> None:
        """Keep other launches out of the folder. Raises RunFailed, on all processes, when one is in it."""
        told: list[str | None] = [None]
        if self.accelerator.is_main_process:
            try:
                self._lock.take()
            except Held as error:
                told = [str(error)]
        held = broadcast_object_list(told)[0]
        if held is not None:
            raise RunFailed(held)

    def over(self, end: End) -> None:
        """Keep how it ended, and let go of all else."""
        self.end = end
        self.setup = self.arm = self.tracker = None
        self._lock.release(self.folder.final if end.status == "finished" else None)

    def fail(self, error: BaseException) -> None:
        """Write the error into the record, unless a finished one stands."""
        if self.tracker is not None:
            self.tracker.finish(failed=True)
        if isinstance(error, RunFailed):  # refused: nothing of it was begun
            told = error
        else:
            begun = self.arm is not None and self.arm.progress.step > 0
            training = asdict(self.arm.progress) if self.arm is not None and begun else None
            told = session.ended_record(
                self.folder, self.frame, error, self.started, self.accelerator, training
            )
            told.__cause__ = error
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        status = "stopped" if stopped else "halved" if isinstance(error, Halved) else "failed"
        best = None if self.arm is None else self.arm.progress.best
        self.over(End(status, self.folder.partial, told, best))


def fail_all(runs: Iterable[Run], error: BaseException) -> None:
    """An error that all of them share; a run that failed or left a search before has its own."""
    for run in runs:
        if run.end is None:
            own = None if run.arm is None else run.arm.error
            run.fail(own or error)


def tried(run: Run, action: Callable[[], T]) -> T | None:
    """Do a run's own work; its failure is its own. On several processes, only where all of them see it."""
    try:
        return action()
    except Exception as error:
        seen = isinstance(error, RunFailed | ValueError)
        if run.accelerator.num_processes > 1 and not seen:
            raise
        run.fail(error)
        return None


def guarded(run: Run, action: Callable[[], T]) -> T | Exception:
    """What it gives, or its error; on several processes an error ends all."""
    try:
        return action()
    except Exception as error:
        if run.accelerator.num_processes > 1:
            raise
        return error
