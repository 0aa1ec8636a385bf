"""comparison.yaml: the question, the runs, the baseline and the one primary metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from r2g.core.registry import nearest

FILE = "comparison.yaml"
DEFAULT_METRICS = ("bleu_4", "rouge_l", "meteor", "cider", "label_f1_micro")


class SpecError(ValueError):
    """A comparison.yaml with mistakes; the message lists them all."""


@dataclass(frozen=True)
class Spec:
    """What is compared, and by what. `runs` are globs of run folders, relative to the file's own folder.

    `baseline` and the keys of `labels` name an arm: by its name in the tables or by its hash. Without a baseline it
    is the arm that trains the fewest parameters. `target` is a training loss; without it the records' own counts.
    `blindness_score` is what the controls are held to; without it the primary metric.
    """

    question: str = ""
    runs: tuple[str, ...] = ()
    baseline: str | None = None
    primary: str = "cider"
    metrics: tuple[str, ...] = DEFAULT_METRICS
    labels: Mapping[str, str] = field(default_factory=dict)
    target: float | int | None = None
    blindness_score: str | None = None
    blindness_margin: float | int = 0.1
    examples: int = 3
    resamples: int = 1000
    permutations: int = 9999
    seed: int = 0

    @property
    def scores(self) -> tuple[str, ...]:
        """The primary metric, then the others, each once."""
        return tuple(dict.fromkeys((self.primary, *self.metrics)))

    @property
    def held_to(self) -> str:
        """The score that reports of other films are held against."""
        return self.blindness_score or self.primary


_TEXT: tuple[type, ...] = (str,)
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("question", "primary"), _TEXT),
    **dict.fromkeys(("baseline", "blindness_score"), (str, type(None))),
    "runs": (list,),
    "metrics": (list,),
    "labels": (dict,),
    "target": (int, float, type(None)),
    "blindness_margin": (int, float),
    **dict.fromkeys(("examples", "resamples", "permutations", "seed"), (int,)),
}
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "blindness_margin": (lambda share: share >= 0, "must be at least 0"),
    "examples": (lambda count: count >= 0, "must be at least 0"),
    "resamples": (lambda count: count >= 100, "must be at least 100"),
    "permutations": (lambda count: count >= 99, "must be at least 99"),
}


def read(path: Path) -> Spec:
    """The settings of a comparison.yaml. Raises SpecError with all mistakes."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SpecError(f"{path} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{path} must hold settings: {', '.join(_TYPES)}")
    problems = [problem for key, value in content.items() for problem in _problems(str(key), value)]
    problems += [f"{key}: is missing" for key in ("question", "runs", "primary") if not content.get(key)]
    if problems:
        raise SpecError("\n".join([f"{len(problems)} mistake(s) in {path}:", *[f"  {p}" for p in problems]]))
    return _frozen(content)


def _frozen(content: Mapping[str, Any]) -> Spec:
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    labels = {str(k): str(v) for k, v in content.get("labels", {}).items()}
    return replace(Spec(), **{**content, **lists, "labels": labels})


def _problems(key: str, value: Any) -> list[str]:
    if key not in _TYPES:
        return [f"{key}: unknown key{nearest(key, [f.name for f in fields(Spec)])}"]
    allowed = _TYPES[key]
    if not isinstance(value, allowed) or isinstance(value, bool):
        names = " or ".join("nothing" if t is type(None) else t.__name__ for t in allowed)
        return [f"{key}: must be {names}, got {value!r}"]
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        return [f"{key}: must be a list of texts, got {value!r}"]
    holds, says = _RANGES.get(key, (lambda _: True, ""))
    return [] if holds(value) else [f"{key}: {says}, got {value!r}"]
