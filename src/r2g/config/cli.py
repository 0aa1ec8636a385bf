"""The command line, made ready for Hydra: a misspelt key must reach our check, which knows the right name."""

import re
from collections.abc import Sequence

_VALUE = re.compile(r"^([A-Za-z_][\w.]*)=")


def lenient(arguments: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Turn `key=value` into `++key=value`, so that Hydra passes unknown keys on and `resolve` refuses them all at once.

    Config groups (`tuning=delta`), Hydra's own keys and everything with a sign in front stay as they are.
    """
    return [_lenient(a, frozenset(groups)) for a in arguments]


def _lenient(argument: str, groups: frozenset[str]) -> str:
    found = _VALUE.match(argument)
    if found is None or found[1] in groups or found[1].split(".")[0] == "hydra":
        return argument
    return "++" + argument
