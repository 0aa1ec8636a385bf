"""python -m r2g.label FILE: the 14 CheXpert observations of every report in a CSV or JSONL file, as a CSV.

Each column is an observation: positive, negative, uncertain or blank. Columns `id` or `study_id` are carried over.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from r2g.chexpert.labeller import label
from r2g.chexpert.lexicon import OBSERVATIONS

_KEYS = ("id", "study_id")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, label, write. Ends with status 1 and a message when the file won't do."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.label", description=__doc__, formatter_class=about)
    parser.add_argument("file", type=Path, help="reports, as .csv or .jsonl")
    parser.add_argument("--column", default="report", help="where the text stands (default: report)")
    parser.add_argument("--out", type=Path, help="CSV to write (default: to the screen)")
    parser.add_argument(
        "--hierarchy", action="store_true", help="a positive pneumonia is also an opacity, ..."
    )
    chosen = parser.parse_args(argv)
    try:
        write(chosen.file, chosen.column, chosen.out, chosen.hierarchy)
    except (OSError, ValueError) as error:
        raise SystemExit(f"r2g.label: {error}") from error


def write(file: Path, column: str, out: Path | None, hierarchy: bool) -> None:
    """One line a report, in the file's order. Raises ValueError for another ending or a row without the text."""
    rows = list(_rows(file))
    lacking = [number for number, row in enumerate(rows, 1) if not isinstance(row.get(column), str)]
    if lacking:
        there = ", ".join(rows[lacking[0] - 1])
        raise ValueError(f"row {lacking[0]} of {file} has no text in {column!r}; its columns: {there}")
    keys = [key for key in _KEYS if rows and key in rows[0]]
    with out.open("w", encoding="utf-8", newline="") if out else nullcontext(sys.stdout) as stream:
        table = csv.writer(stream)
        table.writerow([*keys, *OBSERVATIONS])
        for row in rows:
            marks = label(row[column], hierarchy)
            table.writerow(
                [*(row.get(key, "") for key in keys), *(marks[name].value for name in OBSERVATIONS)]
            )


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)
    elif file.suffix == ".jsonl":
        lines = file.read_text(encoding="utf-8").split("\n")
        yield from (json.loads(line) for line in lines if line.strip())
    else:
        raise ValueError(f"{file} must end in .csv or .jsonl")


if __name__ == "__main__":
    main()
