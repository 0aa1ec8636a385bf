"""How a run is filed by a tracker: name, tags, settings and figures, all from what stands in its record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from r2g.core import keys

JOB_TYPE = "train"
DRAWN_AGAINST = (keys.SAMPLES, keys.SECONDS)
"""Axes, besides the step, that a curve is drawn against; each has copies of its own."""
_TAGGED = ("encoder", "projector", "llm", "tuning")
_LONGEST_TAG = 64  # W&B refuses a run with a longer one


def title(frame: Mapping[str, Any]) -> str:
    """A run's name: `tuning_modes-0123456789ab`."""
    return f"{frame['config']['name']}-{frame['id']}"


def name_tag(name: str) -> str:
    """The tag that all runs of one name, such as a sweep's, share: `name:tuning_modes`."""
    return f"name:{name}"[:_LONGEST_TAG]


def tags(frame: Mapping[str, Any]) -> tuple[str, ...]:
    """`name:smoke`, `encoder:tiny`, ..., `protocol:NAME-HASH`."""
    choices, rules = frame["choices"], frame["protocol"]
    chosen = [f"{slot}:{choices[slot]}" for slot in _TAGGED if slot in choices]
    return (name_tag(frame["config"]["name"]), *chosen, f"protocol:{rules['name']}-{rules['hash']}")


def settings(frame: Mapping[str, Any]) -> dict[str, Any]:
    """What a tracker is told of the config: all of it, the choices by name, and the rules of the scores."""
    rules = {name: frame["protocol"][name] for name in ("name", "hash")}
    return {**frame["config"], keys.CHOICES: dict(frame["choices"]), keys.PROTOCOL: rules}


def drawn(values: Mapping[str, Any]) -> dict[str, Any]:
    """One point of the curves, with the copies that are drawn against other axes than the step."""
    curves = [k for k in values if k == keys.TRAIN_LOSS or k.startswith(f"{keys.VAL}/")]
    return {**values, **{keys.by(a, k): values[k] for a in DRAWN_AGAINST if a in values for k in curves}}


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """A finished record's figures under the names of `r2g.core.keys`."""
    budget = record["budget"]
    values: dict[str, Any] = {
        keys.BUDGET_TRAINABLE: budget["trainable"],
        keys.BUDGET_TOTAL: budget["total"],
        keys.BUDGET_TRAINABLE_PERCENT: budget["trainable_percent"],
    }
    if budget.get("flops"):
        values[keys.BUDGET_FLOPS_FORWARD] = budget["flops"]["forward"]
        values[keys.BUDGET_FLOPS_BACKWARD] = budget["flops"]["backward"]
    for name, part in budget["parts"].items():
        values |= {keys.budget(name, what): part[what] for what in ("trainable", "total")}
        values[keys.budget(name, "trainable_percent")] = 100 * part["trainable"] / max(1, part["total"])
    values |= {f"{keys.CONVERGENCE}/{k}": v for k, v in record["convergence"].items()}
    values |= {keys.test(k): v for k, v in record["scores"].items()}
    for name, scores in record["controls"].items():
        values |= {keys.control(name, k): v for k, v in scores.items()}
    return values


@dataclass(frozen=True)
class Keys:
    """Names that a run logs, or that a picture asks for. Settings are paths: `choices.tuning`."""

    config: frozenset[str]
    history: frozenset[str]
    summary: frozenset[str]

    def lacking(self, wanted: "Keys") -> list[str]:
        """Those of `wanted` that aren't here, each with its place: `summary test/bleu_4`."""
        places = ("config", "history", "summary")
        gone = {place: getattr(wanted, place) - getattr(self, place) for place in places}
        return [f"{place} {name}" for place in places for name in sorted(gone[place])]


def logged(record: Mapping[str, Any], curve: Iterable[Mapping[str, Any]]) -> Keys:
    """What a tracker is told of a finished run; `curve` holds the rows of curve.jsonl.

    What is None counts as not logged: nothing can be drawn from it.
    """
    history = {name for row in curve for name, value in drawn(row).items() if value is not None}
    figures = {name for name, value in summary(record).items() if value is not None}
    return Keys(frozenset(paths(settings(record))), frozenset(history), frozenset(figures))


def paths(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`{"a": {"b": 1}}` as `["a", "a.b"]`."""
    found: list[str] = []
    for key, value in tree.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += paths(value, f"{prefix}{key}.")
    return found
