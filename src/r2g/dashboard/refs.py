"""Every name that a serialized board refers to, read from the spec as it would be sent."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from r2g.core.filing import Keys

RUN = ("createdAt", "displayName", "group", "name", "state", "tags")
"""What W&B knows of a run by itself."""
_Reference = tuple[str, str]  # config, history, run or summary; and the name there


class SpecError(ValueError):
    """A spec with something in it whose names can't be told."""


def references(spec: Mapping[str, Any]) -> Keys:
    """The names of settings, points and figures. Raises SpecError for a panel or a place that isn't known here."""
    found = set(_walk(spec))
    strange = sorted({f"{place} {name}" for place, name in found if not _known(place, name)})
    if strange:
        raise SpecError(f"unknown places in the spec: {', '.join(strange)}")
    config, history, summary = (
        frozenset(name for where, name in found if where == place)
        for place in ("config", "history", "summary")
    )
    return Keys(config, history, summary)


def panels(spec: Any) -> int:
    """How many panels a spec holds."""
    return sum("viewType" in node for node in _nodes(spec))


def _known(place: str, name: str) -> bool:
    return place in ("config", "history", "summary") or (place == "run" and name in RUN)


def _walk(spec: Any) -> Iterator[_Reference]:
    for node in _nodes(spec):
        if "viewType" in node:
            kind = node["viewType"]
            if kind not in _READERS:
                raise SpecError(f"a panel of kind '{kind}', of which it isn't known what it refers to")
            yield from _READERS[kind](node["config"])
        if "runFeed" in node:
            yield from _runset(node)


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, Mapping):
        yield tree
    for branch in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ():
        yield from _nodes(branch)


def _scatter(config: Mapping[str, Any]) -> Iterator[_Reference]:
    for axis in ("xAxis", "yAxis", "zAxis"):
        if axis in config:
            yield _accessor(config[axis])


def _line(config: Mapping[str, Any]) -> Iterator[_Reference]:
    for name in (config["xAxis"], *config["metrics"]):
        yield "history", name
    if "groupBy" in config:
        yield _setting(config["groupBy"]) if ".value" in config["groupBy"] else ("run", config["groupBy"])


def _parallel(config: Mapping[str, Any]) -> Iterator[_Reference]:
    for column in config["columns"]:
        yield _accessor(column["accessor"])


def _runset(node: Mapping[str, Any]) -> Iterator[_Reference]:
    for column in node["runFeed"]["columnOrder"]:
        yield _accessor(column)
    sorts = [entry["key"] for entry in node["sort"]["keys"]]
    filters = [inner["key"] for inner in _nodes(node["filters"]) if "key" in inner]
    for key in [*sorts, *filters, *node["grouping"]]:
        yield _accessor(f"{key['section']}:{key['name']}")


def _accessor(text: str) -> _Reference:
    """`summary:test/bleu_4`, `config:choices.value.tuning`, `run:displayName`."""
    place, _, name = text.partition(":")
    return _setting(name) if place == "config" else (place, name)


def _setting(name: str) -> _Reference:
    """`choices.value.tuning` as the setting's path; W&B puts `value` after the first word."""
    first, value, *rest = [*name.split("."), ""]
    if value != "value":
        raise SpecError(f"a setting '{name}' without W&B's 'value' in its place")
    return "config", ".".join([first, *(word for word in rest if word)])


_READERS: dict[str, Callable[[Mapping[str, Any]], Iterator[_Reference]]] = {
    "Scatter Plot": _scatter,
    "Run History Line Plot": _line,
    "Parallel Coordinates Plot": _parallel,
    "Run Comparer": lambda config: iter(()),  # noqa: ARG005 - it shows whatever runs have
}
