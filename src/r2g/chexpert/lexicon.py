"""The word lists (YAML files beside this module) as compiled regular expressions."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

OBSERVATIONS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
_PATTERNS_IN_A_UNION = 8
OTHER = "other"
"""Findings beyond the 14 (scoliosis, emphysema, ...), which only keep a report from being normal."""


@dataclass(frozen=True)
class Observation:
    """What names one observation; a pattern that no list gives is None."""

    name: str
    present: re.Pattern[str]
    uncertain: re.Pattern[str] | None
    absent: re.Pattern[str] | None
    ignore: re.Pattern[str] | None


@cache
def observations() -> tuple[Observation, ...]:
    """The observations that have words of their own, and `other` last."""
    content = read("observations.yaml")
    names = _expand(content["names"])
    lists = {**content["observations"], OTHER: content[OTHER]}
    return tuple(_observation(name, part, names) for name, part in lists.items())


@dataclass(frozen=True)
class Cues:
    """A few patterns of cues, each with its kind, and their union: where that isn't found, none of them is."""

    union: re.Pattern[str]
    patterns: tuple[tuple[str, re.Pattern[str]], ...]


@cache
def cues() -> tuple[Cues, ...]:
    """The kinds of cues and their patterns, in the order of the file.

    Each pattern stands alone: in a union, regular expressions take the first that fits and not the longest. The
    unions only save time, as most patterns aren't in most sentences.
    """
    listed = [(kind, pattern) for kind, patterns in read("cues.yaml").items() for pattern in patterns]
    parts = [listed[i : i + _PATTERNS_IN_A_UNION] for i in range(0, len(listed), _PATTERNS_IN_A_UNION)]
    return tuple(
        Cues(_any([p for _, p in part], {}), tuple((kind, _any([p], {})) for kind, p in part))
        for part in parts
    )


def read(name: str) -> Any:
    """A YAML file of this package."""
    return yaml.safe_load((files("r2g.chexpert") / name).read_text("utf-8"))


def _observation(name: str, part: dict[str, list[str]], names: dict[str, str]) -> Observation:
    ready = {kind: _any(patterns, names) for kind, patterns in part.items()}
    return Observation(
        name, ready["present"], ready.get("uncertain"), ready.get("absent"), ready.get("ignore")
    )


def _any(patterns: list[str], names: dict[str, str]) -> re.Pattern[str]:
    ordered = sorted((_fill(p, names) for p in patterns), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(ordered)})(?!\w)")


def _expand(names: dict[str, str]) -> dict[str, str]:
    """Names may use the names above them."""
    done: dict[str, str] = {}
    for name, pattern in names.items():
        done[name] = _fill(pattern, done)
    return done


def _fill(pattern: str, names: dict[str, str]) -> str:
    """{name} by its pattern; a repeat such as {0,4} is left alone."""
    return re.sub(r"\{([a-z_]+)\}", lambda match: names[match[1]], pattern)
