"""Exact names to classes: one package per slot, one file per name, imported only when asked for."""

import difflib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_ROOT = Path(__file__).resolve().parents[1]


class UnknownName(LookupError):
    """A name that no file of the slot carries; the message lists the choices and the nearest."""


def nearest(name: str, choices: list[str]) -> str:
    """The hint `; did you mean 'x'?`, or nothing when no choice is close."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


class Registry(Generic[T]):
    """The classes of one slot, filled lazily from the package `r2g.<package>`.

    The module's file name is the registered name. Files that start with an underscore and `base.py` are helpers.
    """

    def __init__(self, slot: str, package: str) -> None:
        self.slot = slot
        self.package = package
        self._found: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator; the name must be new and equal to the module's file name. Sets `kind` on the class."""

        def add(cls: type[T]) -> type[T]:
            if name in self._found:
                raise ValueError(f"{self.slot} '{name}' is registered twice: {self._found[name]} and {cls}")
            if cls.__module__.rsplit(".", 1)[-1] != name:
                raise ValueError(
                    f"{self.slot} '{name}' must live in {self.package}/{name}.py, not {cls.__module__}"
                )
            cls.kind = name  # type: ignore[attr-defined]
            self._found[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All names of the slot, read from the file names without importing anything."""
        files = (_ROOT / self.package).glob("*.py")
        return sorted(f.stem for f in files if f.stem != "base" and not f.stem.startswith("_"))

    def get(self, name: str) -> type[T]:
        """The class of a name. Raises UnknownName on a miss; a broken import surfaces as itself."""
        if name not in self._found:
            choices = self.names()
            if name not in choices:
                raise UnknownName(
                    f"unknown {self.slot} '{name}'{nearest(name, choices)} (choices: {', '.join(choices)})"
                )
            importlib.import_module(f"r2g.{self.package}.{name}")
            if name not in self._found:
                raise LookupError(f"r2g/{self.package}/{name}.py registers no {self.slot} named '{name}'")
        return self._found[name]
