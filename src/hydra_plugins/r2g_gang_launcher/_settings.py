"""What a gang is told, wherever it trains: checked the same, and handed on by the launcher that starts it elsewhere."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r2g.halving import Halving

_SAID = "search.log"


def gang_problems(memory_gb: float | None, halving: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with a gang's bound and its search."""
    problems = []
    if memory_gb is not None and memory_gb <= 0:
        problems.append(f"hydra.launcher.memory_gb must be above 0 or null, got {memory_gb}")
    try:
        search_of(halving)
    except (TypeError, ValueError) as error:
        problems += [f"hydra.launcher.halving: {said}" for said in error.args]
    return problems


def search_of(halving: Mapping[str, Any] | None) -> "Halving | None":
    """The search that the settings name. Raises TypeError or ValueError, an argument for each mistake."""
    if halving is None:
        return None
    from r2g.halving import Halving  # late: it imports torch, which only a search needs here

    whole = {"rungs": tuple(halving.get("rungs", ())), "eta": float(halving.get("eta", 0))}
    return Halving(**{**halving, **whole})


def gang_words(max_arms: int, memory_gb: float | None, search: "Halving | None") -> list[str]:
    """The same settings on the command line of a gang of its own."""
    words = ["hydra/launcher=gang", f"hydra.launcher.max_arms={max_arms}"]
    if memory_gb is not None:
        words.append(f"hydra.launcher.memory_gb={memory_gb}")
    if search is not None:
        told = {**asdict(search), "metric": f"'{search.metric}'", "rungs": list(search.rungs)}
        words.append(f"hydra.launcher.halving={{{', '.join(f'{key}: {told[key]}' for key in told)}}}")
    return words


def said_in(folder: Path) -> Path:
    """Where a gang on a worker leaves what its search warns of: the user sees the launcher, not the worker's log."""
    return folder / _SAID
