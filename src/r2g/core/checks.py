"""Checks of a record of settings: all that fail are told together, not the first alone."""

from collections.abc import Callable, Sequence
from typing import Any


class Checks:
    """What is wrong with `settings`, collected. Settings that aren't there are passed over.

    `resolve` leaves out those whose type is wrong, which it has told already, and still has the others checked.
    """

    def __init__(self, settings: object) -> None:
        self._settings = settings
        self._wrong: list[str] = []

    def each(self, names: Sequence[str], ok: Callable[[Any], bool], words: str) -> "Checks":
        """Every one of these settings by itself: `<name> <words>, got <value>`."""
        for name in names:
            if hasattr(self._settings, name) and not ok(getattr(self._settings, name)):
                self._wrong.append(f"{name} {words}, got {getattr(self._settings, name)}")
        return self

    def joint(self, names: Sequence[str], ok: Callable[..., bool], words: str) -> "Checks":
        """These settings held against each other; `words` may name their values: {0}, {1}, ..."""
        if all(hasattr(self._settings, name) for name in names):
            values = [getattr(self._settings, name) for name in names]
            if not ok(*values):
                self._wrong.append(words.format(*values))
        return self

    def done(self) -> None:
        """Raises ValueError with one argument for each mistake."""
        if self._wrong:
            raise ValueError(*self._wrong)


def at_least(low: int) -> Callable[[Any], bool]:
    """For `each`: a number of at least `low`, or null where the type allows it."""
    return lambda value: value is None or value >= low


def above_zero(value: Any) -> bool:
    """For `each`: a number above 0, or null where the type allows it."""
    return value is None or value > 0
