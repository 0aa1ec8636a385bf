"""python -m r2g.cache: what the cache holds, and room made in it.

The cache lies under paths.cache (R2G_CACHE, or cache/). With real data it holds films and texts of patients.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from r2g.core.store import leftovers, remove, size
from r2g.core.tables import table

_MB = 2**20
_STORES = ("features", "films")


def main() -> None:
    """The command line."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.cache", description=__doc__, formatter_class=about)
    place = Path(os.environ.get("R2G_CACHE", "cache"))
    parser.add_argument("--folder", type=Path, default=place, help=f"another cache (default: {place})")
    parser.add_argument(
        "--drop", metavar="NAME", help="remove a line of the table, such as features/0a1b, or features"
    )
    parser.add_argument(
        "--tidy", action="store_true", help="remove what killed writers left; no run may be writing"
    )
    chosen = parser.parse_args()
    if not chosen.folder.is_dir():
        sys.exit(f"there is no cache at {chosen.folder}")
    if chosen.tidy:
        _print(f"{remove(leftovers(chosen.folder)) / _MB:.1f} MB freed")
    if chosen.drop:
        drop(chosen.folder, chosen.drop)
    _print(report(chosen.folder))


def report(folder: Path) -> str:
    """A table of what the cache holds: stores with their rows, everything else by its folder."""
    rows: list[list[Any]] = []
    for entry in sorted(p for p in folder.iterdir() if p.is_dir()):
        parts = sorted(p for p in entry.iterdir() if p.is_dir()) if entry.name in _STORES else [entry]
        rows += [
            [str(p.relative_to(folder)), _rows(p) if entry.name in _STORES else None, size(p) / _MB]
            for p in parts
        ]
    rows.append(["in all", None, sum(row[2] for row in rows)])
    left = sum(p.stat().st_size for p in leftovers(folder))
    note = (
        f"\n{left / _MB:.1f} MB of it were left by writers that were killed; --tidy removes them"
        if left
        else ""
    )
    return table(["what", "films", "MB"], rows) + note


def drop(folder: Path, name: str) -> None:
    """Remove one line of the table, or one of its groups. Exits with a message if there is none of that name."""
    place = (folder / name).resolve()
    if folder.resolve() not in place.parents or not place.is_dir():
        sys.exit(f"{folder} has no '{name}'")
    freed = size(place)
    shutil.rmtree(place)
    _print(f"{freed / _MB:.1f} MB freed")


def _rows(store: Path) -> int:
    return len({key for index in store.glob("*.json") for key in json.loads(index.read_text())["keys"]})


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's result


if __name__ == "__main__":
    main()
