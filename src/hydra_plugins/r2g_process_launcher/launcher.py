"""The launcher: arms as child processes of this one."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn

from hydra_plugins.r2g_process_launcher._base import ArmsLauncher, limit_problems, terms_of
from hydra_plugins.r2g_process_launcher.arms import run_all


class ProcessLauncher(ArmsLauncher):
    """Runs `python -m MODULE` with a job's overrides, `parallel` jobs at once, each for at most `minutes`."""

    def __init__(
        self,
        module: str,
        parallel: int,
        minutes: float | None,
        grace_seconds: float,
        gpus: Sequence[int | str] | None = None,
    ) -> None:
        self.module = module
        self.parallel = parallel
        self.terms = terms_of(minutes, grace_seconds, gpus)
        self.problems = limit_problems(minutes, grace_seconds)
        if parallel < 1:
            self.problems.append(f"hydra.launcher.parallel must be at least 1, got {parallel}")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, print the table, and give Hydra an answer for each; the first failed one raises there."""
        configs, arms = self.arms(job_overrides, initial_job_idx)
        known = self.known(configs, arms)
        missing = [arm for arm in arms if arm.number not in known]
        terms = self.terms.shared_by(min(self.parallel, len(missing)))
        ends, signal_number = run_all(missing, self.parallel, terms)
        told = known | {arm.number: end for arm, end in zip(missing, ends, strict=True)}
        return self.concluded(job_overrides, configs, arms, told, signal_number)
