"""What launchers of a multirun have in common: each job's config, and Hydra's answers for arms that ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write


class ArmsFailed(CompactHydraException):
    """Some arms of a multirun did not finish; Hydra shows it without a traceback and ends with status 1."""


def refuse(problems: Sequence[str]) -> None:
    """Raise ArmsFailed, a line for each, if there are any."""
    if problems:
        raise ArmsFailed("\n".join(problems))


@runtime_checkable
class Ended(Protocol):
    """How an arm ended. `good`: its record is there. `objective` is what a search looks at."""

    @property
    def good(self) -> bool: ...
    @property
    def objective(self) -> float | None: ...


def job_config(context: HydraContext, config: DictConfig, job: Sequence[str], number: int) -> DictConfig:
    """The config of job `number`, Hydra's own part included."""
    whole = context.config_loader.load_sweep_config(config, list(job))
    with open_dict(whole):
        whole.hydra.job.id = whole.hydra.job.num = number
    return whole


def own_part(whole: DictConfig) -> DictConfig:
    """A copy of a job's config without Hydra's part."""
    plain = whole.copy()
    with read_write(plain), open_dict(plain):
        plain.pop("hydra", None)
    return plain


def answers(
    jobs: Sequence[Sequence[str]],
    configs: Sequence[DictConfig],
    folders: Sequence[Path],
    ends: Sequence[Ended],
) -> list[JobReturn]:
    """One for each job; Hydra raises the first that failed, once it is asked for its value."""
    failed = sum(not end.good for end in ends)
    missing = f"{failed} of {len(ends)} arms did not finish; the same command again runs those alone"
    return [
        JobReturn(
            overrides=list(job),
            cfg=config,
            hydra_cfg=config,
            working_dir=str(folder),
            task_name=config.hydra.job.name,
            status=JobStatus.COMPLETED if end.good else JobStatus.FAILED,
            _return_value=end.objective if end.good else ArmsFailed(missing),
        )
        for job, config, folder, end in zip(jobs, configs, folders, ends, strict=True)
    ]
