"""Ray: a task for each arm. The plugin's own way of waiting gives up all at the first task that is lost."""

from collections.abc import Sequence
from typing import Any

import ray
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray, start_ray
from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher
from omegaconf import DictConfig

from r2g.config.multirun import ArmsFailed, job_config


class RayArms(RayLauncher):
    """Hands the arms to Ray, waits for each, and says of a task that was lost that it was."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hand-over. Ray starts here, as it takes SIGTERM for itself when it does."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.given: tuple[HydraContext, DictConfig, TaskFunction] = (hydra_context, config, task_function)
        try:
            start_ray(self.ray_cfg.init)
        except (ConnectionError, ValueError) as error:
            raise ArmsFailed(f"Ray did not start: {error}") from error

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """One answer for each job, in their order."""
        context, config, task = self.given
        tasks = [
            launch_job_on_ray(
                context,
                self.ray_cfg.remote,
                job_config(context, config, job, initial_job_idx + i),
                task,
                Singleton.get_state(),
            )
            for i, job in enumerate(job_overrides)
        ]
        return [_answer(task) for task in tasks]


def _answer(task: Any) -> JobReturn:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return JobReturn(status=JobStatus.FAILED, _return_value=error)
