"""A sweep's runs, composed as Hydra would launch them, without launching any."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2g.config.cli import config_groups, lenient
from r2g.config.paths import config_dir

if TYPE_CHECKING:
    from r2g.config.schema import RunConfig


@dataclass(frozen=True)
class Runs:
    """Runs with the words that set each apart. `trials` is a search's number of trials: then one run stands for all."""

    titles: tuple[str, ...]
    configs: tuple["RunConfig", ...]
    trials: int | None
    many: bool


def compose_runs(
    words: Sequence[str], folder: str | None = None, name: str = "config", many: bool = False
) -> Runs:
    """What `python -m r2g.run -cd folder -cn name words` would run; `many` stands for -m.

    Raises ConfigError with the mistakes of all runs, or Hydra's own errors.
    """
    import hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    conf = Path(config_dir()).resolve()
    search = [] if folder is None else [f"hydra.searchpath=[file://{conf}]"]
    with hydra.initialize_config_dir(str(Path(folder or conf).resolve()), version_base="1.3"):
        parser = OverridesParser.create()
        given = parser.parse_overrides(lenient(words, config_groups(folder)))
        ours = [o for o in given if o.key_or_group.replace("/", ".").split(".")[0] == "hydra"]
        fixed = [str(o.input_line) for o in given if not o.is_sweep_override()]
        node = hydra.compose(name, [*search, *fixed], return_hydra_config=True).hydra
        many = many or str(node.mode) == "RunMode.MULTIRUN"
        task = [str(o.input_line) for o in given if o not in ours]
        if not many:
            jobs, trials = [task], None
        else:
            params = [f"{key}={value}" for key, value in (node.sweeper.params or {}).items()]
            jobs, trials = _jobs(parser.parse_overrides(params + task), node.sweeper)
        _refuse(given_twice(jobs))
        left = [*search, *(str(o.input_line) for o in ours)]
        composed = [hydra.compose(name, [*left, *lenient(job, config_groups(folder))]) for job in jobs]
    return Runs(titles(jobs), _resolved(composed, titles(jobs)), trials, many)


def _jobs(overrides: list[Any], sweeper: Any) -> tuple[list[list[str]], int | None]:
    """The overrides of each run; of a search, one run's, and how many trials it makes."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if "basic_sweeper" in sweeper._target_:
        return BasicSweeper.split_arguments(overrides, None)[0], None
    return [[_first(override) for override in overrides]], int(sweeper.get("n_trials", 1))


def _first(override: Any) -> str:
    """A search's axis, at the first value that it may take."""
    from hydra.core.override_parser.types import IntervalSweep

    if not override.is_sweep_override():
        return str(override.input_line)
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return f"{key}={value.start}"
    return f"{key}={next(iter(override.sweep_string_iterator()))}"


def given_twice(jobs: Sequence[Sequence[str]]) -> list[str]:
    """A problem for each key that a sweep and the command line both give, which Hydra takes for two axes."""
    keys = [word.lstrip("+").partition("=")[0] for word in jobs[0]] if jobs else []
    words = "given twice, by the sweep and on the command line; write it as ++{0} in the sweep's params"
    return [f"{key}: {words.format(key)}" for key in sorted({k for k in keys if keys.count(k) > 1})]


def titles(jobs: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What sets each job apart: its overrides without those that all have, and without signs."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return tuple(
        " ".join(word.lstrip("+") for word in job if word not in common) or "(as it is)" for job in jobs
    )


def _refuse(problems: list[str]) -> None:
    from r2g.config.resolve import ConfigError

    if problems:
        raise ConfigError(problems)


def _resolved(composed: Sequence[Any], names: Sequence[str]) -> tuple["RunConfig", ...]:
    from r2g.config.resolve import ConfigError, resolve

    configs, problems = [], list[str]()
    for raw, name in zip(composed, names, strict=True):
        try:
            configs.append(resolve(raw))
        except ConfigError as error:
            problems += [f"{name}: {problem}" if len(composed) > 1 else problem for problem in error.problems]
    _refuse(problems)
    return tuple(configs)
