"""SLURM by submitit: one job array a sweep. An arm that is preempted is saved, queued again, and goes on.

submitit's own way of waiting stops at the first arm that failed, and needs accounting to see that a job died; its way
of being preempted lets SIGTERM pass unheard. Both are replaced here; the rest is the plugin's.
"""

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from hydra_plugins.r2g_worker_launcher._task import Task
from r2g.config.multirun import ArmsFailed

_LOG = logging.getLogger(__name__)
_LOOKS = 3  # a job that is missing from the queue so often without having told a result is dead
_OURS = ("submitit_folder", "max_num_timeout", "setup", "signal_delay_s", "additional_parameters")


class SlurmArms(SlurmLauncher):
    """Submits, waits for every job, and says of a job that died that it did. `poll_seconds`: between two looks."""

    def __init__(self, poll_seconds: float, **params: Any) -> None:
        super().__init__(**params)
        self.poll_seconds = poll_seconds
        self.task_function: Task

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """One answer for each job, in their order. Raises ArmsFailed if SLURM doesn't take them."""
        rows = [
            (list(job), "hydra.sweep.dir", initial_job_idx + i, None, Singleton.get_state())
            for i, job in enumerate(job_overrides)
        ]
        try:
            jobs = self._executor().map_array(self, *zip(*rows, strict=True))
        except Exception as error:
            raise ArmsFailed(f"SLURM did not take the jobs: {error}") from error
        _LOG.info("SLURM has the jobs %s; logs: %s", _span(jobs), jobs[0].paths.folder.parent)
        return self._wait(jobs)

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """What submitit asks for before it puts the job back into the queue; the arm has ended by then.

        A job that is being cancelled, or put back by SLURM itself, is left to SLURM.
        """
        state = _state_of(own_name(os.environ))
        if state not in ("RUNNING", None):  # a controller that doesn't answer can't have it in hand
            _LOG.info("this job is %s: SLURM has it in hand", state or "out of the queue")
            sys.exit(143)
        return super().checkpoint(*args, **kwargs)

    def _executor(self) -> Any:
        import submitit

        given = self.params
        executor = submitit.AutoExecutor(
            given["submitit_folder"], cluster="slurm", slurm_max_num_timeout=given["max_num_timeout"]
        )
        base = set(BaseQueueConf.__dataclass_fields__)
        plain = {k: v for k, v in given.items() if k not in _OURS}
        # one signal for preemption and for a time limit that comes near; without --requeue, some sites don't requeue
        more = {
            "signal": f"TERM@{given['signal_delay_s']}",
            "requeue": True,
            **given["additional_parameters"],
        }
        executor.update_parameters(
            **{k if k in base else f"slurm_{k}": v for k, v in plain.items()},
            slurm_setup=["export SUBMITIT_PREEMPT_SIGNAL=TERM", *given["setup"]],
            slurm_additional_parameters=more,
        )
        return executor

    def _wait(self, jobs: Sequence[Any]) -> list[JobReturn]:
        ends: dict[str, JobReturn] = {}
        missed = Counter[str]()
        cancelled = False
        while len(ends) < len(jobs):
            time.sleep(self.poll_seconds)
            if self.task_function.terms.stopping() and not cancelled:
                cancelled = True  # those that run see the file themselves
                _ask("scancel", "--state=PENDING", *(job.job_id for job in jobs))
            queued = _queued()
            for job in (job for job in jobs if job.job_id not in ends):
                if job.paths.result_pickle.exists():
                    ends[job.job_id] = _result(job)
                elif queued is not None:
                    missed[job.job_id] = 0 if job.job_id in queued else missed[job.job_id] + 1
                    if missed[job.job_id] >= _LOOKS:
                        ends[job.job_id] = _failed(
                            f"SLURM job {job.job_id} ended without a result"
                            f"{_state(job.job_id)}; see {job.paths.stderr}"
                        )
        return [ends[job.job_id] for job in jobs]


def own_name(environment: Mapping[str, str]) -> str:
    """SLURM's name for the job that this process is in, also as a task of an array.

    The last task of an array has the array's own id as SLURM_JOB_ID, which stands for all of its tasks.
    """
    array, task = (environment.get(f"SLURM_ARRAY_{what}") for what in ("JOB_ID", "TASK_ID"))
    return environment["SLURM_JOB_ID"] if array is None or task is None else f"{array}_{task}"


def _state_of(name: str) -> str | None:
    """A job's state, empty for one that is out of the queue; None if SLURM can't be asked."""
    for look in range(_LOOKS):
        time.sleep(2 * look)
        told = _ask("squeue", "--noheader", "--format=%T", f"--jobs={name}")
        if told is not None:
            return told.strip()
    return None


def _span(jobs: Sequence[Any]) -> str:
    return jobs[0].job_id if len(jobs) == 1 else f"{jobs[0].job_id} to {jobs[-1].job_id}"


def _result(job: Any) -> JobReturn:
    outcome, value = job._get_outcome_and_result()
    if outcome == "success":
        return value
    return _failed(value.strip().splitlines()[-1])


def _failed(message: str) -> JobReturn:
    return JobReturn(status=JobStatus.FAILED, _return_value=RuntimeError(message))


def _ask(*words: str) -> str | None:
    """What a command of SLURM's prints; None if it can't be had, as while the controller restarts."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _queued() -> set[str] | None:
    """The user's jobs that wait or run, each of an array by itself."""
    told = _ask("squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}")
    return None if told is None else set(told.split())


def _state(identity: str) -> str:
    """How SLURM's accounting calls the end of a job, where there is accounting."""
    told = _ask(
        "sacct", "--noheader", "--allocations", "--parsable2", "--format=State,ExitCode", f"--jobs={identity}"
    )
    lines = (told or "").split("\n")
    return f" ({lines[0].replace('|', ', exit code ')})" if lines[0] else ""
