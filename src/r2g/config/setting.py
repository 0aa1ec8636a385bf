"""One setting of a config by its key, `projector.hidden` or `tuning.rules.0.last`: read, or put to another value."""

import dataclasses
from typing import Any


def read(config: Any, key: str) -> Any:
    """The value. Raises KeyError with the part of the key that leads nowhere."""
    node = config
    for name in _names(key):
        node = _child(node, name)
    return node


def put(config: Any, key: str, value: Any) -> Any:
    """A copy of the config with another value there; its checks run anew. Raises KeyError or their ValueError."""
    return _put(config, _names(key), value)


def dotted(key: str) -> str:
    """`tuning.rules[0].last`, as mistakes are told, the way that the command line can take it."""
    return key.replace("[", ".").replace("]", "")


def _names(key: str) -> list[str]:
    return dotted(key).split(".")


def _child(node: Any, name: str) -> Any:
    if dataclasses.is_dataclass(node) and name in {f.name for f in dataclasses.fields(node)}:
        return getattr(node, name)
    if isinstance(node, dict) and name in node:
        return node[name]
    if isinstance(node, tuple) and name.isdecimal() and int(name) < len(node):
        return node[int(name)]
    raise KeyError(name)


def _put(node: Any, names: list[str], value: Any) -> Any:
    if not names:
        return value
    child = _put(_child(node, names[0]), names[1:], value)
    if isinstance(node, dict):
        return {**node, names[0]: child}
    if isinstance(node, tuple):
        return tuple(child if i == int(names[0]) else part for i, part in enumerate(node))
    return dataclasses.replace(node, **{names[0]: child})
