"""The launcher: arms, or gangs of them, handed to the workers of a plugin that need not be installed."""

import contextlib
import importlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, read_write

from hydra_plugins.r2g_gang_launcher._settings import gang_problems, gang_words, said_in, search_of
from hydra_plugins.r2g_process_launcher._base import ArmsLauncher, limit_problems, quoted, terms_of
from hydra_plugins.r2g_process_launcher.arms import Arm, End
from hydra_plugins.r2g_worker_launcher._task import Piece, Task, told_of
from r2g.config.multirun import ArmsFailed
from r2g.core.outcome import forget_outcome, read_outcome

_LOG = logging.getLogger(__name__)
_PLUGINS = {  # the extra's name: whose class hands jobs to workers
    "joblib": ("hydra_plugins.hydra_joblib_launcher.joblib_launcher", "JoblibLauncher"),
    "submitit": ("hydra_plugins.r2g_worker_launcher._slurm", "SlurmArms"),
    "ray": ("hydra_plugins.r2g_worker_launcher._ray", "RayArms"),
}


class WorkerLauncher(ArmsLauncher):
    """Runs `python -m MODULE` with a job's overrides in a worker of `plugin`, which gets all other settings.

    A worker watches its arm as hydra/launcher=process does. With `gang`, up to so many arms are one gang in one worker,
    to which `memory_gb` and `halving` mean what they mean to hydra/launcher=gang.
    """

    def __init__(
        self,
        plugin: str,
        module: str,
        minutes: float | None,
        grace_seconds: float,
        gang: int | None,
        memory_gb: float | None,
        halving: Mapping[str, Any] | None,
        gpus: Sequence[int | str] | None = None,
        **settings: Any,
    ) -> None:
        problems = limit_problems(minutes, grace_seconds)
        if gang is not None and gang < 1:
            problems.append(f"hydra.launcher.gang must be at least 1 or null, got {gang}")
        problems += gang_problems(memory_gb, halving)
        if gang is None and not (memory_gb is None and halving is None):
            problems.append(
                "hydra.launcher.memory_gb and halving are settings of a gang: say how many arms one has with "
                "hydra.launcher.gang=N"
            )
        at_once = settings.get("n_jobs", -1)
        if plugin == "joblib" and (not isinstance(at_once, int) or at_once == 0):
            problems.append(f"hydra.launcher.n_jobs must be a whole number, and not 0, got {at_once}")
        if plugin not in _PLUGINS:
            problems.append(f"hydra.launcher.plugin must be one of {', '.join(_PLUGINS)}, got {plugin}")
        self.problems = problems
        self.module = module
        self.terms = terms_of(minutes, grace_seconds, gpus)
        self.gang, self.memory_gb = gang, memory_gb
        self.search = None if problems else search_of(halving)
        self.named, self.settings = plugin, settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hand-over. Raises ArmsFailed with the way to the plugin if it isn't installed."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.plugin: Launcher = _class_of(self.named)(**self.settings)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, print the table, and give Hydra an answer for each; the first failed one raises there."""
        configs, arms = self.arms(job_overrides, initial_job_idx)
        root = Path(self.config.hydra.sweep.dir).absolute() / ".launcher"
        root.mkdir(parents=True, exist_ok=True)
        stop = root / "stop"
        stop.unlink(missing_ok=True)
        for arm in arms:
            forget_outcome(arm.folder)  # of an earlier sweep in the same hydra.sweep.dir
        known = self.known(configs, arms) if self.search is None else {}  # a search's gangs stay as they were
        missing = [
            (job, arm) for job, arm in zip(job_overrides, arms, strict=True) if arm.number not in known
        ]
        pieces = self._pieces([job for job, _ in missing], [arm for _, arm in missing], root)
        terms = replace(self.terms.shared_by(self._at_once(len(pieces))), stop=stop)
        task = Task(tuple(pieces), initial_job_idx, terms, Path.cwd())
        if self.search is not None:
            self._say_split(len(pieces))
        firsts = [list(job_overrides[piece.members[0].number - initial_job_idx]) for piece in pieces]
        if pieces:
            self._hand_over(task, root)
        with _asked_to_stop(stop) as numbers:
            returns = self._by_plugin(firsts, initial_job_idx) if pieces else []
        _repeat_warnings(pieces)
        told = known | {
            arm.number: end
            for piece, found in zip(pieces, returns, strict=True)
            for arm, end in zip(piece.members, _ends(piece, found, stop.exists()), strict=True)
        }
        return self.concluded(job_overrides, configs, arms, told, numbers[0] if numbers else None)

    def _at_once(self, pieces: int) -> int:
        """How many share a machine: joblib's pool is on one; SLURM and Ray give each job its own part of theirs."""
        if self.named != "joblib":
            return 1
        import joblib

        return min(joblib.effective_n_jobs(self.settings.get("n_jobs", -1)), pieces)

    def _pieces(self, jobs: Sequence[Sequence[str]], arms: Sequence[Arm], root: Path) -> list[Piece]:
        """An arm each; or as many neighbours as make a gang, which are trained by hydra/launcher=gang."""
        if self.gang is None:
            return [Piece(arm, (arm,)) for arm in arms]
        pieces = []
        for begin in range(0, len(arms), self.gang):
            members = arms[begin : begin + self.gang]
            folder = root / f"gang-{members[0].number}"
            folder.mkdir(exist_ok=True)
            said_in(folder).unlink(missing_ok=True)
            rows = [
                {"number": arm.number, "folder": str(arm.folder), "words": list(job)}
                for arm, job in zip(members, jobs[begin : begin + self.gang], strict=True)
            ]
            listed = folder / "jobs.json"
            listed.write_text(json.dumps(rows))
            words = gang_words(self.gang, self.memory_gb, self.search)
            words += [f"hydra.launcher.jobs={quoted(listed)}", f"hydra.sweep.dir={quoted(folder)}"]
            words += ["hydra/sweeper=basic", "hydra.sweeper.params=null"]  # the jobs are those of the file
            title = f"a gang of {len(members)}: " + "; ".join(arm.title for arm in members)
            command = [*self.start(), "-m", *self.kept_words(), *words]
            pieces.append(Piece(Arm(members[0].number, title, command, folder), tuple(members)))
        return pieces

    def _say_split(self, gangs: int) -> None:
        from r2g.halving import warn_of_split

        warn_of_split(gangs, "gang")

    def _hand_over(self, task: Task, root: Path) -> None:
        """Give the plugin the task and a config which workers compose anew: of the launcher, they need nothing.

        What Hydra leaves of a worker lies in `root`, beside the arms' folders.
        """
        words = ["hydra/launcher=basic", "hydra.output_subdir=null", "hydra.sweep.subdir=${hydra.job.num}"]
        words += [f"hydra.sweep.dir={quoted(root)}"]
        config = self.config.copy()
        with read_write(config):
            config.hydra.overrides.hydra = [*self.kept_words(), *words]
        self.plugin.setup(hydra_context=self.context, task_function=task, config=config)

    def _by_plugin(self, jobs: list[list[str]], first: int) -> list[JobReturn]:
        """What the workers give; if the plugin itself breaks, its error stands for all."""
        try:
            return list(self.plugin.launch(jobs, first))
        except ArmsFailed:
            raise
        except (KeyboardInterrupt, Exception) as error:
            return [JobReturn(status=JobStatus.FAILED, _return_value=error) for _ in jobs]


def _class_of(plugin: str) -> Any:
    module, name = _PLUGINS[plugin]
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ArmsFailed(
            f"hydra/launcher={plugin} needs a plugin that isn't installed ({error.name}): in the checkout, "
            f"pip install -e '.[{plugin}]'"
        ) from error


def _repeat_warnings(pieces: Sequence[Piece]) -> None:
    """What searches warned of on the workers, to the user of this process."""
    for piece in pieces:
        said = said_in(piece.process.folder)
        for line in said.read_text().splitlines() if said.is_file() else []:
            _LOG.warning("%s: %s", said.parent, line)


def _ends(piece: Piece, found: JobReturn, stopping: bool) -> list[End]:
    """What a worker tells of its arms, or what they left if it can't."""
    if found.status is JobStatus.COMPLETED:
        return list(found.return_value)
    error = found._return_value
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    lost = End("stopped" if stopping else "killed", error=said)
    begun = [read_outcome(arm.folder) is not None for arm in piece.members]
    if stopping and not any(begun):
        return [End("not started") for _ in piece.members]
    return [told_of(arm, lost) for arm in piece.members]


@contextlib.contextmanager
def _asked_to_stop(stop: Path) -> Iterator[list[int]]:
    """While inside, the first SIGINT or SIGTERM reaches the workers as a file; a second one ends this at once."""
    numbers: list[int] = []

    def note(number: int, _: Any) -> None:
        numbers.append(number)
        stop.touch()
        if len(numbers) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield numbers
        return
    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield numbers
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
