"""python -m r2g.run: train, evaluate and record one run; with -m, many."""

import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from r2g.config.cli import lenient
from r2g.config.paths import config_dir


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="config")
def _main(raw: DictConfig) -> None:
    from r2g.config.resolve import ConfigError, resolve  # late: components import torch, and --help must not
    from r2g.session import RunFailed, execute

    try:
        config = resolve(raw)
    except ConfigError as error:
        _refuse(str(error))
    choices = {k: v for k, v in HydraConfig.get().runtime.choices.items() if "/" not in k and v is not None}
    try:
        execute(config, {k: str(v) for k, v in choices.items()})
    except RunFailed as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    """End with the message alone; in a multirun, end this arm only, where sys.exit would end them all."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise RuntimeError(message)
    sys.exit(message)


def main() -> None:
    """The entry point; unknown keys on the command line reach our own check instead of Hydra's."""
    groups = [p.name for p in Path(config_dir()).iterdir() if p.is_dir()]
    sys.argv[1:] = lenient(sys.argv[1:], groups)
    _main()


if __name__ == "__main__":
    main()
