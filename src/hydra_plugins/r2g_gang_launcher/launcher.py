"""The launcher: jobs to gangs, their ends to Hydra's answers and a table."""

import contextlib
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.r2g_gang_launcher._settings import gang_problems, said_in, search_of
from r2g.config.multirun import answers, job_config, own_part, refuse
from r2g.core.outcome import GOOD

if TYPE_CHECKING:
    from r2g.gang import Job

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Told:
    """How an arm ended; `short` of memory, it may go on beside fewer others."""

    status: str
    record: str | None = None
    error: str | None = None
    objective: float | None = None
    short: bool = False

    @property
    def good(self) -> bool:
        """Is its record there, or has a search done with it?"""
        return self.status in GOOD

    def leave(self, folder: Path) -> None:
        """Word of it, for the launcher that started this gang."""
        from r2g.core.outcome import Outcome

        record = None if self.record is None else str(Path(self.record).absolute())
        Outcome(self.status, record, self.error, self.objective).write(folder)


class GangLauncher(Launcher):
    """Trains jobs that can share a frozen llm side by side: at most `max_arms`, and in at most `memory_gb`."""

    def __init__(
        self,
        max_arms: int,
        memory_gb: float | None,
        halving: Mapping[str, Any] | None = None,
        jobs: str | None = None,
    ) -> None:
        self.jobs = jobs
        self.max_arms = max_arms
        self.memory_gb = memory_gb
        self.halving = halving
        bound = [f"hydra.launcher.max_arms must be at least 1, got {max_arms}"] if max_arms < 1 else []
        self.problems = bound + gang_problems(memory_gb, halving)

    def setup(
        self,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,  # noqa: ARG002 - Hydra's signature; a gang has a task of its own
        config: DictConfig,
    ) -> None:
        """Hydra's hand-over. Raises ArmsFailed for wrong settings; not sooner, or Hydra would bury what it says."""
        refuse(self.problems)
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, print the table, and give Hydra an answer for each; the first failed one raises there."""
        from r2g.config.sweep import titles

        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # sweepers write there
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        rows = self._rows(job_overrides, initial_job_idx)
        jobs, numbers = [row["words"] for row in rows], [row["number"] for row in rows]
        trees = [job_config(self.context, self.config, job, n) for job, n in zip(jobs, numbers, strict=True)]
        names = titles([list(filter_overrides(job)) for job in jobs])
        main = int(os.environ.get("RANK", "0")) == 0
        with _written_down(said_in(Path(self.jobs).parent) if self.jobs is not None and main else None):
            told = self._run_all(trees, names, [row.get("folder") if main else None for row in rows])
        if main:
            _say(numbers, names, told)
        if any(end.status == "stopped" for end in told):
            sys.exit(143)
        return answers(jobs, trees, [Path.cwd()] * len(told), told)

    def _rows(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[dict[str, Any]]:
        """Each job's number and words; another launcher lists them in a file, with a folder for word of the end."""
        if self.jobs is not None:
            return json.loads(Path(self.jobs).read_text())
        return [{"number": first + i, "words": list(job)} for i, job in enumerate(job_overrides)]

    def _run_all(
        self, trees: Sequence[DictConfig], names: Sequence[str], folders: Sequence[str | None]
    ) -> list[_Told]:
        """Gangs one after the other, as they fit; an arm with a mistake in its config is told and left out.

        Word of each end is left in the arm's folder with its gang's end: a later gang may not let this process live.
        """
        from r2g import gang
        from r2g.grouping import groups_of
        from r2g.halving import warn_of_split

        search = search_of(self.halving)
        found = {i: _job_of(tree) for i, tree in enumerate(trees)}
        told = {i: end for i, end in found.items() if isinstance(end, _Told)}
        _leave(told, folders)
        jobs = {i: job for i, job in found.items() if not isinstance(job, _Told)}
        numbers = list(jobs)
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        groups = groups_of([jobs[i].config for i in numbers], self.max_arms, self.memory_gb, processes)
        if search is not None:
            warn_of_split(len(groups), "max_arms" if self.jobs is None else "gang")
        waiting = deque([numbers[i] for i in group] for group in groups)
        while waiting and not any(end.status == "stopped" for end in told.values()):
            members = waiting.popleft()
            _LOG.info("a gang of %d: %s", len(members), "; ".join(names[i] for i in members))
            ends = _run_gang(members, [jobs[i] for i in members], partial(gang.execute_gang, halving=search))
            if processes == 1 and search is None:
                waiting.extendleft(reversed(_once_more(ends)))
            _leave(ends, folders)
            told |= ends
        never = {i: _Told("not started") for i in range(len(trees)) if i not in told}
        _leave(never, folders)
        return [(told | never)[i] for i in range(len(trees))]


def _once_more(ends: dict[int, _Told]) -> list[list[int]]:
    """Smaller gangs for those of a gang that memory was too short for; their ends don't count and are taken out."""
    short = [i for i, end in ends.items() if end.short]
    size, half = len(ends), (len(short) + 1) // 2
    if size < 2 or not short:
        return []
    smaller = [short] if len(short) < size else [short[:half], short[half:]]
    sizes = " and ".join(str(len(group)) for group in smaller)
    _LOG.warning("memory is too short for a gang of %d: on in gangs of %s", size, sizes)
    for i in short:
        del ends[i]
    _release()
    return smaller


def _release() -> None:
    """Memory of a gang that is gone: errors keep the frames, and these the tensors, until they are collected."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def _leave(ends: Mapping[int, _Told], folders: Sequence[str | None]) -> None:
    for i, end in ends.items():
        if (folder := folders[i]) is not None:
            end.leave(Path(folder))


@contextlib.contextmanager
def _written_down(file: Path | None) -> Iterator[None]:
    """While inside, what a search warns of goes into a file too, if there is one."""
    if file is None:
        yield
        return
    logger, handler = logging.getLogger("r2g.halving"), logging.FileHandler(file, mode="w")
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _job_of(tree: DictConfig) -> "Job | _Told":
    from r2g.config.resolve import ConfigError, resolve
    from r2g.gang import Job
    from r2g.matching import matched
    from r2g.tuning import PlanError

    choices: Mapping[str, Any] = tree.hydra.runtime.choices
    try:
        config = matched(resolve(own_part(tree)))
    except (ConfigError, PlanError) as error:
        return _Told("failed", None, _line(str(error)))
    return Job(config, {k: str(v) for k, v in choices.items() if "/" not in k and v is not None})


def _run_gang(members: Sequence[int], jobs: Sequence["Job"], execute: Any) -> dict[int, _Told]:
    from accelerate.utils.memory import should_reduce_batch_size

    from r2g.session import RunFailed

    try:
        ends = execute(jobs)
    except RunFailed as error:  # of all: a device or processes that aren't there
        return {i: _Told("failed", None, _line(str(error))) for i in members}
    told = {}
    for i, end in zip(members, ends, strict=True):
        good = end.status in GOOD
        best = end.best if good else None
        said = None if end.error is None else _line(str(end.error))
        short = end.error is not None and should_reduce_batch_size(end.error.__cause__)
        told[i] = _Told(end.status, str(end.record), said, best, short)
    return told


def _line(message: str) -> str:
    """Of several mistakes, the first one."""
    lines = [line.strip() for line in message.splitlines()]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _say(numbers: Sequence[int], names: Sequence[str], ends: Sequence[_Told]) -> None:
    from r2g.core.tables import table

    rows = [
        [number, name, e.status, e.record and os.path.relpath(e.record), e.error]
        for number, name, e in zip(numbers, names, ends, strict=True)
    ]
    print("\n" + table(["#", "arm", "status", "record", "error"], rows), flush=True)  # noqa: T201
