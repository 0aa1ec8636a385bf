"""Hydra's composed tree to a frozen RunConfig; every mistake is reported at once, with the nearest right name."""

import contextlib
import dataclasses
import math
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r2g.config.schema import RunConfig
from r2g.config.setting import dotted
from r2g.core.registry import Registry, UnknownName, nearest
from r2g.core.types import Cleaner, Section

_BAD: Any = object()  # stands for a value whose mistake has been noted already


class ConfigError(ValueError):
    """All mistakes of a config; `problems` lists them as `key: what is wrong`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join([f"{len(problems)} mistake(s) in the config:", *[f"  {p}" for p in problems]])
        )


def resolve(raw: DictConfig) -> RunConfig:
    """Turn the composed tree into settings. Raises ConfigError with all mistakes."""
    problems: list[str] = []
    tree = _plain(raw, "", problems)
    config = _parse(RunConfig, tree, "", problems)
    problems += _across(config) if isinstance(config, RunConfig) else _across_parts(tree, problems)
    if problems:
        raise ConfigError(problems)
    return config


def read_settings(kind: Any, file: Path, part: str | None = None) -> Any:
    """One file of the config tree by itself, or one `part` of it. Raises ConfigError with all mistakes."""
    problems: list[str] = []
    tree = _plain(OmegaConf.load(file), "", problems)
    if problems:
        raise ConfigError(problems)
    return from_tree(kind, tree if part is None else tree.get(part), part or file.stem)


def from_tree(kind: Any, tree: Any, key: str) -> Any:
    """What `to_tree` made plain, a part of a record's config for example. Raises ConfigError with all mistakes."""
    problems: list[str] = []
    found = _parse(kind, tree, key, problems)
    if problems:
        raise ConfigError(problems)
    return found


def to_tree(value: Any) -> Any:
    """The inverse of `resolve`: settings as plain JSON values, slots with their `kind`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = {f.name: to_tree(getattr(value, f.name)) for f in dataclasses.fields(value)}
        kind = getattr(value, "kind", None)
        return {"kind": kind, **tree} if isinstance(kind, str) else tree
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {k: to_tree(v) for k, v in value.items()}
    return [to_tree(v) for v in value] if isinstance(value, list | tuple) else value


def _plain(node: Any, key: str, problems: list[str]) -> Any:
    """OmegaConf's tree as dicts and lists; an interpolation that leads nowhere is told and becomes _BAD."""
    if isinstance(node, DictConfig):
        return {k: _child(node, k, _join(key, str(k)), problems) for k in node}
    if isinstance(node, ListConfig):
        return [_child(node, i, f"{key}[{i}]", problems) for i in range(len(node))]
    return node


def _child(node: Any, name: Any, key: str, problems: list[str]) -> Any:
    if OmegaConf.is_missing(node, name):
        return "???"
    try:
        return _plain(node[name], key, problems)
    except OmegaConfBaseException as error:
        problems.append(f"{key}: {str(error).splitlines()[0]}")
        return _BAD


def _parse(kind: Any, value: Any, key: str, problems: list[str]) -> Any:
    if value is _BAD:
        return _BAD
    if value == "???":  # as OmegaConf leaves a value that nobody gave
        problems.append(f"{key}: must be given: {key}=...")
        return _BAD
    origin = get_origin(kind)
    if origin is Annotated:
        return _slot(get_args(kind)[1], value, key, problems)
    if origin in (typing.Union, types.UnionType):
        return _optional(kind, value, key, problems)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, key, problems)
    if origin is dict:
        return _mapping(get_args(kind)[1], value, key, problems)
    if origin is tuple:
        return _sequence(get_args(kind)[0], value, key, problems)
    return _leaf(kind, value, key, problems)


def _slot(registry: Registry, value: Any, key: str, problems: list[str]) -> Any:
    if isinstance(value, dict) and value.get("kind") is _BAD:
        return _BAD
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        problems.append(f"{key}: needs `kind:`, one of {', '.join(registry.names())}")
        return _BAD
    try:
        cls = registry.get(value["kind"])
    except UnknownName as error:
        problems.append(f"{key}.kind: {error}")
        return _BAD
    return _record(cls, {k: v for k, v in value.items() if k != "kind"}, key, problems)


def _optional(kind: Any, value: Any, key: str, problems: list[str]) -> Any:
    inner = [a for a in get_args(kind) if a is not type(None)]
    if value is None and len(inner) < len(get_args(kind)):
        return None
    return _parse(inner[0], value, key, problems)


def _record(cls: Any, value: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{key}: expected a group of settings, got {_show(value)}")
        return _BAD
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in sorted(set(map(str, value)) - set(fields)):
        choices = sorted(fields)
        hint = nearest(name, choices) or f" (known here: {', '.join(choices)})"
        problems.append(f"{_join(key, name)}: unknown key{hint}")
    parts = {}
    for name, field in fields.items():
        if name in value:
            parts[name] = _parse(hints[name], value[name], _join(key, name), problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{_join(key, name)}: missing")
            parts[name] = _BAD
    return _build(cls, parts, key, problems)


def _build(cls: Any, parts: dict[str, Any], key: str, problems: list[str]) -> Any:
    """The settings, if all parts are sound; the checks of `cls` are run on the sound ones in any case."""
    sound = {name: part for name, part in parts.items() if part is not _BAD}
    try:
        if len(sound) == len(parts):
            return cls(**parts)
        _check_what_is_there(cls, sound)
    except ValueError as error:
        told = error.args if all(isinstance(a, str) for a in error.args) else (str(error),)
        problems += [f"{key}: {words}" if key else words for words in told]
    return _BAD


def _check_what_is_there(cls: Any, sound: dict[str, Any]) -> None:
    probe = object.__new__(cls)
    for name, part in sound.items():
        object.__setattr__(probe, name, part)
    with contextlib.suppress(AttributeError):  # a check that needs what has a mistake of its own
        getattr(probe, "__post_init__", lambda: None)()


def _mapping(kind: Any, value: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{key}: expected a mapping, got {_show(value)}")
        return _BAD
    parts = {str(k): _parse(kind, v, _join(key, str(k)), problems) for k, v in value.items()}
    return _BAD if any(v is _BAD for v in parts.values()) else parts


def _sequence(kind: Any, value: Any, key: str, problems: list[str]) -> Any:
    if not isinstance(value, list):
        problems.append(f"{key}: expected a list, got {_show(value)}")
        return _BAD
    parts = tuple(_parse(kind, v, f"{key}[{i}]", problems) for i, v in enumerate(value))
    return _BAD if any(v is _BAD for v in parts) else parts


def _leaf(kind: Any, value: Any, key: str, problems: list[str]) -> Any:
    if kind is Any:
        return value
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = [m.value for m in kind]
        if value in choices:
            return kind(value)
        hint = nearest(str(value), choices) or f" (choices: {', '.join(choices)})"
        problems.append(f"{key}: unknown choice {_show(value)}{hint}")
        return _BAD
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        problems.append(f"{key}: expected a finite number, got {value}")
        return _BAD
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    problems.append(f"{key}: expected {kind.__name__}, got {_show(value)}")
    return _BAD


def _across(config: RunConfig) -> list[str]:
    """Mistakes that only two settings together show."""
    parts = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return [problem for _, check in _CHECKS for problem in check(parts)]


def _across_parts(tree: Any, problems: list[str]) -> list[str]:
    """The same on a tree that has other mistakes: what parses alone is still held against each other."""
    hints = typing.get_type_hints(RunConfig, include_extras=True)
    wanted = {name for names, _ in _CHECKS for name in names if isinstance(tree, dict) and name in tree}
    parts = {name: _parse(hints[name], tree[name], name, []) for name in sorted(wanted)}
    sound = {name for name, part in parts.items() if part is not _BAD}
    found = [problem for names, check in _CHECKS if sound.issuperset(names) for problem in check(parts)]
    return [f for f in found if f not in problems]


def _adapter_targets(parts: dict[str, Any]) -> list[str]:
    problems = []
    for label, adapter in parts["tuning"].adapters.items():
        target = getattr(adapter, "targets", None)
        roles = sorted(parts[adapter.part.value].roles)
        if target is not None and target not in roles:
            hint = nearest(target, roles) or f" (it has: {', '.join(roles) or 'none'})"
            name = parts[adapter.part.value].kind
            problems.append(
                f"tuning.adapters.{label}.targets: {adapter.part.value} '{name}' has no '{target}'{hint}"
            )
    return problems


def _rule_roles(parts: dict[str, Any]) -> list[str]:
    problems = []
    for i, rule in enumerate(parts["tuning"].rules):
        part = rule.match.split(".", 1)[0]
        roles = sorted(parts[part].roles) if part in ("encoder", "llm") else []
        if rule.role is not None and rule.role not in roles:
            hint = nearest(rule.role, roles) or f" (it has: {', '.join(roles) or 'none'})"
            problems.append(f"tuning.rules[{i}].role: {part} has no '{rule.role}'{hint}")
    return problems


def _selected(parts: dict[str, Any]) -> list[str]:
    names = sorted({"loss", *(name for metric in parts["score"].metrics.values() for name in metric.names)})
    problems = []
    for i, term in enumerate(parts["train"].select):
        if term.score not in names:
            shown = ", ".join(name for name in names if "/" not in name)
            hint = f"{nearest(term.score, names)} (there are: {shown})"
            problems.append(f"train.select[{i}].score: no metric of score.metrics gives '{term.score}'{hint}")
    return problems


def _protocol_fits(parts: dict[str, Any]) -> list[str]:
    """Data that can't be brought to the protocol's form: another cleaner's references, another section, other views."""
    rules, data = parts["score"].protocol, parts["data"]
    given = getattr(data, "cleaner", Cleaner.none)
    found = []
    if rules.cleaner not in (None, given) and given is not Cleaner.none:
        found.append(
            f"score.protocol: '{rules.name}' cleans by {rules.cleaner.value}, but data.cleaner is {given.value}; set "
            f"data.cleaner to {rules.cleaner.value} or none, or score by another protocol"
        )
    settings = {"section": "data.section", "views": "data.max_views"}
    for rule, why in rules.misfits(getattr(data, "section", Section.as_given), data.views).items():
        found.append(
            f"score.protocol: '{rules.name}' doesn't fit the data: {why}; score by another protocol, correct "
            f"{settings[rule]}, or set score.protocol.{rule}=as_given, which gives the rules another hash"
        )
    return found


def _labels_fit(parts: dict[str, Any]) -> list[str]:
    """Clinical metrics must read labels as the protocol says."""
    rules = parts["score"].protocol
    told = {label: rules.other_labels(metric.labeller) for label, metric in parts["score"].metrics.items()}
    return [
        f"score.metrics.{label}: not a metric of the protocol '{rules.name}': {why}; leave it out, or set "
        "score.protocol.labels=null, which gives the rules another hash"
        for label, why in told.items()
        if why
    ]


def _free_setting(parts: dict[str, Any]) -> list[str]:
    match = parts["budget_match"]
    if match is None:
        return []
    tree = {name: to_tree(parts[name]) for name in ("encoder", "projector", "llm", "tuning")}
    counts = [key for key, value in _leaves(tree, "") if value is None or type(value) is int]
    if dotted(match.setting) in counts:
        return []
    hint = nearest(match.setting, counts) or f" (there are: {', '.join(counts)})"
    return [f"budget_match.setting: '{match.setting}' is no whole number of the model{hint}"]


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [leaf for name, child in node.items() for leaf in _leaves(child, _join(key, name))]
    if isinstance(node, list):
        return [leaf for i, child in enumerate(node) for leaf in _leaves(child, f"{key}.{i}")]
    return [(key, node)]


# Which parts of the config a check needs; it is left out where one of them has a mistake of its own.
_CHECKS = (
    (("encoder", "llm", "tuning"), _adapter_targets),
    (("encoder", "llm", "tuning"), _rule_roles),
    (("train", "score"), _selected),
    (("data", "score"), _protocol_fits),
    (("score",), _labels_fit),
    (("budget_match", "encoder", "projector", "llm", "tuning"), _free_setting),
)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _show(value: Any) -> str:
    return f"{type(value).__name__} {value!r}" if not isinstance(value, str) else repr(value)
