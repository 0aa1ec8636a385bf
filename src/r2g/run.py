"""python -m r2g.run: train, evaluate and record one run; with -m, many."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from r2g.config.cli import config_folder, config_groups, lenient
from r2g.config.paths import config_dir
from r2g.core.outcome import Outcome, read_outcome
from r2g.there import already as already  # what launchers ask of the module whose arms they start

if TYPE_CHECKING:
    from r2g.config.schema import RunConfig


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="config")
def _main(raw: DictConfig) -> float | None:
    from r2g.config.resolve import ConfigError, resolve  # late: components import torch, and --help must not
    from r2g.session import RunFailed
    from r2g.tuning import PlanError

    job = Path(HydraConfig.get().runtime.output_dir)
    try:
        return _run(resolve(raw), job)
    except (ConfigError, PlanError, RunFailed) as error:
        _refuse(str(error), job)


def _run(config: "RunConfig", job: Path) -> float | None:
    """Run, and leave word in the job's folder of where the record is; gives the best validation selection."""
    from r2g import record
    from r2g.config.resolve import to_tree
    from r2g.gang import execute
    from r2g.matching import matched

    config = matched(config)
    folder = record.folder_of(config.paths.outputs, config.name, record.run_id(to_tree(config)))
    status = "finished" if folder.finished() is None else "already there"
    Outcome("running", str(folder.partial.absolute())).write(job)
    choices = {k: v for k, v in HydraConfig.get().runtime.choices.items() if "/" not in k and v is not None}
    final = execute(config, {k: str(v) for k, v in choices.items()})
    best = record.read(final)["training"]["best"]
    Outcome(status, str(final.absolute()), objective=best).write(job)
    return best


def _refuse(message: str, job: Path) -> NoReturn:
    """End with the message alone; in a multirun, end this arm only, where sys.exit would end them all."""
    began = read_outcome(job)
    Outcome("failed", None if began is None else began.record, _first_line(message)).write(job)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise RuntimeError(message)
    sys.exit(message)


def _first_line(message: str) -> str:
    """Of several mistakes, the first one."""
    lines = [line.strip() for line in message.splitlines()]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def main() -> None:
    """The entry point; unknown keys on the command line reach our own check instead of Hydra's."""
    groups = config_groups(config_folder(sys.argv))
    sys.argv[1:] = lenient(sys.argv[1:], groups)
    _main()


if __name__ == "__main__":
    main()
