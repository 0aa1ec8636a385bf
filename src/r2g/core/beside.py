"""How many other runs may compute beside a run on the same device: the launcher that starts them all tells each."""

import os
from collections.abc import Mapping

_VARIABLE = "R2G_BESIDE"


def told_to_a_run(others: int) -> dict[str, str]:
    """Environment variables of a run that has so many others beside it."""
    return {_VARIABLE: str(others)}


def heard(environment: Mapping[str, str] = os.environ) -> int:
    """How many others this run has beside it, as its launcher told; 0 if none did."""
    return int(environment.get(_VARIABLE, "0"))
