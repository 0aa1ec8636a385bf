"""Plain text tables, as every command prints them."""

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns under a ruled header; a column of numbers is flush right. None is shown as `-`.

    Floats keep four decimals, integers get thousands separators. Raises ValueError if the widths differ.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"a row of {len(row)} cells under {len(headers)} headers: {list(row)}")
    cells = [[_show(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    right = [_numbers([row[i] for row in rows]) for i in range(len(headers))]
    lines = [list(headers), ["-" * width for width in widths], *cells]
    aligned = [
        [text.rjust(w) if r else text.ljust(w) for text, w, r in zip(line, widths, right, strict=True)]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def _numbers(column: list[object]) -> bool:
    """Are all values that are there numbers?"""
    values = [value for value in column if value is not None]
    return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _show(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
