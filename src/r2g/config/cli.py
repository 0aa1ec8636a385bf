"""The command line, made ready for Hydra: a misspelt key must reach our check, which knows the right name."""

import re
from collections.abc import Sequence
from pathlib import Path

from r2g.config.paths import config_dir

_ALWAYS_THERE = (
    "name",
    "seed",
)  # and so not misspelt; as they stand, they replace a sweep's axis of that name
_VALUE = re.compile(r"^([A-Za-z_][\w.]*)=")


def config_groups(folder: str | None) -> list[str]:
    """The groups of our config tree, and of the folder that `--config-dir` adds."""
    roots = [Path(config_dir()), *([Path(folder)] if folder else [])]
    return [path.name for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir()]


def config_folder(arguments: Sequence[str]) -> str | None:
    """The folder behind `-cd` or `--config-dir`, if it is there."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, _, value = word.partition("=")
        if flag in ("-cd", "--config-dir"):
            return value or following
    return None


def lenient(arguments: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Turn `key=value` into `++key=value`, so that Hydra passes unknown keys on and `resolve` refuses them all at once.

    Config groups (`tuning=delta`), Hydra's own keys and everything with a sign in front stay as they are.
    """
    return [_lenient(a, frozenset(groups)) for a in arguments]


def _lenient(argument: str, groups: frozenset[str]) -> str:
    found = _VALUE.match(argument)
    if found is None or found[1] in groups or found[1].split(".")[0] == "hydra" or found[1] in _ALWAYS_THERE:
        return argument
    return "++" + argument
