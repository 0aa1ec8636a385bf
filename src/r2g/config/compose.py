"""The settings that the command line would give, for code that is not run by Hydra."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2g.config.cli import lenient
from r2g.config.paths import config_dir

if TYPE_CHECKING:
    from r2g.config.schema import RunConfig


def compose(overrides: Sequence[str]) -> "RunConfig":
    """The settings that `python -m r2g.run` would get from the same words. Raises ConfigError, or Hydra's own."""
    return compose_with_choices(overrides)[0]


def compose_with_choices(overrides: Sequence[str]) -> tuple["RunConfig", dict[str, str]]:
    """The same, and what was chosen in each group."""
    import hydra
    from omegaconf import open_dict

    from r2g.config.resolve import resolve

    folder = str(Path(config_dir()).resolve())
    groups = [p.name for p in Path(folder).iterdir() if p.is_dir()]
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        raw = hydra.compose("config", overrides=lenient(overrides, groups), return_hydra_config=True)
        chosen = raw.hydra.runtime.choices
        choices = {k: str(v) for k, v in chosen.items() if "/" not in k and v is not None}
        with open_dict(raw):
            del raw.hydra
        return resolve(raw), choices
