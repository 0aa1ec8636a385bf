"""What launchers that give each arm a process have in common: jobs to command lines, ends to a table and to Hydra."""

import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.r2g_process_launcher.arms import Arm, End, Terms
from r2g.config.multirun import ArmsFailed, answers, job_config, refuse

_LOG = logging.getLogger(__name__)
# What is said to the launching process and not to its arms.
_OF_THE_SWEEP = ("hydra.mode", "hydra.launcher", "hydra.sweeper", "hydra.sweep", "hydra.run")


class ArmsLauncher(Launcher):
    """Runs `python -m MODULE` with a job's overrides; where, says the class below."""

    module: str
    problems: Sequence[str]  # of its settings: told in `setup`, for Hydra buries what a constructor raises

    def setup(
        self,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,  # noqa: ARG002 - Hydra's signature; each process starts the task anew
        config: DictConfig,
    ) -> None:
        """Hydra's hand-over. Raises ArmsFailed for wrong settings, and where processes of our own would do harm."""
        refuse(self.problems)
        self.context, self.config = hydra_context, config
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            chosen = config.hydra.runtime.choices.get("hydra/launcher")
            raise ArmsFailed(
                f"hydra/launcher={chosen} starts one process an arm and can't be launched by torchrun or accelerate; "
                "take hydra/launcher=basic there"
            )
        if config.hydra.sweeper.get("max_batch_size") and "basic_sweeper" in config.hydra.sweeper._target_:
            raise ArmsFailed(
                "with hydra.sweeper.max_batch_size, a failing arm would end the sweep with its batch; leave it null "
                "and let the launcher say how many arms run at once (hydra.launcher.parallel=N; n_jobs of joblib)"
            )

    def arms(self, job_overrides: Sequence[Sequence[str]], first: int) -> tuple[list[DictConfig], list[Arm]]:
        """The whole config of each job, and how it is run. Raises ArmsFailed for a key that is given twice."""
        from r2g.config.sweep import given_twice, titles

        refuse(given_twice(job_overrides))
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # sweepers write there
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        configs = [
            job_config(self.context, self.config, job, first + i) for i, job in enumerate(job_overrides)
        ]
        names = titles([list(filter_overrides(job)) for job in job_overrides])
        arms = [
            Arm(config.hydra.job.num, title, self._command(job, folder), folder)
            for job, title, config in zip(job_overrides, names, configs, strict=True)
            for folder in [Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()]
        ]
        return configs, arms

    def known(self, configs: Sequence[DictConfig], arms: Sequence[Arm]) -> dict[int, End]:
        """The arms, by number, that need no start: `module` may tell, by `already(configs)`, whose record is there."""
        tell = getattr(importlib.import_module(self.module), "already", None)
        # to ask takes as long as to start one arm, and a search hands over its later ones as it invents them
        if tell is None or len(arms) < 2 or arms[0].number:
            return {}
        try:
            told = tell(configs)
        except ChildProcessError as error:
            _LOG.warning("which arms are done can't be told (%s); each is started", error)
            return {}
        found = {
            arm.number: End(outcome.status, 0.0, outcome.record, None, outcome.objective)
            for arm, outcome in zip(arms, told, strict=True)
            if outcome is not None
        }
        if found:
            _LOG.info("%d of %d arms are done and need no start", len(found), len(arms))
        return found

    def concluded(
        self,
        job_overrides: Sequence[Sequence[str]],
        configs: Sequence[DictConfig],
        arms: Sequence[Arm],
        told: Mapping[int, End],
        signal_number: int | None,
    ) -> list[JobReturn]:
        """Print the table, and give Hydra an answer for each, `told` by number; the first failed one raises there."""
        ends = [told[arm.number] for arm in arms]
        _say(arms, ends)
        if signal_number is not None:
            sys.exit(128 + signal_number)
        return answers(job_overrides, configs, [arm.folder for arm in arms], ends)

    def _command(self, job: Sequence[str], folder: Path) -> list[str]:
        """A line that a user could type to run this arm alone."""
        return [*self.start(), *self.kept_words(), "hydra.mode=RUN", f"hydra.run.dir={quoted(folder)}", *job]

    def start(self) -> list[str]:
        """The words that every command line begins with."""
        return [sys.executable, "-m", self.module, *self._sources()]

    def kept_words(self) -> list[str]:
        """What the user told Hydra that is not about the sweep."""
        given = OverridesParser.create().parse_overrides(list(self.config.hydra.overrides.hydra))
        return [o.input_line for o in given if o.input_line and not _of_the_sweep(o.key_or_group)]

    def _sources(self) -> list[str]:
        """The flags that lead to the same primary config."""
        from r2g.config.paths import config_dir

        words = ["-cn", str(self.config.hydra.job.config_name)]
        for source in self.config.hydra.runtime.config_sources:
            if source.provider == "command-line":
                words += ["-cd", source.path]
            if source.provider == "main" and not Path(source.path).samefile(config_dir()):
                words += ["-cp", source.path]
        return words


def limit_problems(minutes: float | None, grace_seconds: float) -> list[str]:
    """What is wrong with an arm's time limit."""
    problems = []
    if minutes is not None and minutes <= 0:
        problems.append(f"hydra.launcher.minutes must be above 0 or null, got {minutes}")
    if grace_seconds < 0:
        problems.append(f"hydra.launcher.grace_seconds must not be negative, got {grace_seconds}")
    return problems


def terms_of(minutes: float | None, grace_seconds: float, gpus: Sequence[int | str] | None) -> Terms:
    """Settings of a launcher, as its arms run under them."""
    limit = None if minutes is None else 60 * minutes
    return Terms(limit, grace_seconds, None, tuple(str(gpu) for gpu in gpus or ()))


def quoted(path: Path | str) -> str:
    """As a value on Hydra's command line."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _of_the_sweep(key: str) -> bool:
    dotted = key.replace("/", ".")
    return any(dotted == word or dotted.startswith(word + ".") for word in _OF_THE_SWEEP)


def _say(arms: Sequence[Arm], ends: Sequence[End]) -> None:
    from r2g.core.tables import table

    rows = [
        [a.number, a.title, e.status, round(e.seconds), e.record and _short(e.record), e.error]
        for a, e in zip(arms, ends, strict=True)
    ]
    print("\n" + table(["#", "arm", "status", "seconds", "record", "error"], rows), flush=True)  # noqa: T201


def _short(record: str) -> str:
    """As seen from here, if it lies below."""
    path = Path(record)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
