"""What a worker does: run one arm, or one gang, as a child process, and tell how it ended."""

import contextlib
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from hydra_plugins.r2g_process_launcher.arms import Arm, End, Terms, run_all
from r2g.core.outcome import GOOD, forget_outcome, read_outcome


@dataclass(frozen=True)
class Piece:
    """A worker's share: the process that it starts, and the arms which that trains."""

    process: Arm
    members: tuple[Arm, ...]

    def ends(self, end: End) -> list[End]:
        """How each arm ended, after the process did."""
        if self.members == (self.process,):
            return [end]
        return [told_of(arm, end) for arm in self.members]


def told_of(arm: Arm, end: End) -> End:
    """What an arm left itself; without that, the end of the process that trained it."""
    outcome = read_outcome(arm.folder)
    if outcome is None or outcome.status == "running":
        bad = (
            end
            if end.status not in GOOD
            else replace(end, status="failed", error="its gang told nothing of it")
        )
        return replace(bad, record=None if outcome is None else outcome.record, objective=None)
    return End(outcome.status, end.seconds, outcome.record, outcome.error, outcome.objective)


@dataclass(frozen=True)
class Task:
    """Stands in for Hydra's task function, and goes to the workers with the pieces in it.

    A signal that reached the worker is passed on to what else listens
    there, once the arm has written its checkpoint: submitit's handler puts the job back into the queue.
    """

    pieces: tuple[Piece, ...]
    first: int
    terms: Terms
    cwd: Path

    def __call__(self, _: Any) -> list[End]:
        piece = self.pieces[HydraConfig.get().job.num - self.first]
        for arm in piece.members:
            forget_outcome(arm.folder)  # of an earlier start, before the job was queued again
        with contextlib.chdir(self.cwd):
            ends, number = run_all([piece.process], 1, self.terms)
        if number is not None:
            signal.raise_signal(number)
        return piece.ends(ends[0])
