"""Cells of a report's tables: a text, and what it is sorted by."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cell:
    """A text as it is shown, and what it is sorted by."""

    text: str
    value: float | int | str | None = None


@dataclass(frozen=True)
class Table:
    """`key` names files and anchors; `note` stands under the title; `protocol` is what its scores are under, if any."""

    key: str
    title: str
    note: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    protocol: str = ""

    def filled(self) -> "Table":
        """Without the columns in which nothing stands."""
        kept = [
            i for i in range(len(self.headers)) if not self.rows or any(r[i].text != "-" for r in self.rows)
        ]
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, headers=tuple(self.headers[i] for i in kept), rows=rows)

    def numeric(self, column: int) -> bool:
        """Are all values that are there numbers?"""
        values = [row[column].value for row in self.rows]
        return any(v is not None for v in values) and not any(isinstance(v, str) for v in values)


def number(value: object, digits: int = 4) -> Cell:
    """A figure, or a dash where there is none."""
    if value is None:
        return Cell("-")
    figure = float(str(value))
    return Cell(f"{figure:,.{digits}f}", figure)


def signed(value: float) -> str:
    """With its sign, and no minus before a zero."""
    return f"{round(value, 4) + 0.0:+.4f}"


def short(value: float, sign: str = "") -> str:
    """A large figure with its unit, a small one whole."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if abs(value) >= size:
            return f"{sign}{value / size:.2f} {unit}"
    return f"{sign}{value:,.1f}" if value != int(value) else f"{sign}{int(value):,}"


def count(value: int | None) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:,}", value)


def bounds(low: float | None, high: float | None, digits: int = 4) -> str:
    return "-" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def chance(value: float) -> Cell:
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)
