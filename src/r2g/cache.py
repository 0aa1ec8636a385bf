"""python -m r2g.cache: what the cache holds, and room made in it.

The cache lies under paths.cache (R2G_CACHE, or cache/). With real data it holds films and texts of patients.
"""

import argparse
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from r2g.core.store import bytes_of, files, keys_of, leftovers, remove, size
from r2g.core.tables import table
from r2g.core.turns import undisturbed

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
    parser.add_argument("--tidy", action="store_true", help="remove what killed writers left")
    chosen = parser.parse_args()
    if not chosen.folder.is_dir():
        sys.exit(f"there is no cache at {chosen.folder}")
    if chosen.tidy:
        tidy(chosen.folder)
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
    left = sum(map(bytes_of, leftovers(folder)))
    note = (
        f"\n{left / _MB:.1f} MB of it are being written, or were left by writers that were killed; --tidy removes those"
        if left
        else ""
    )
    return table(["what", "films", "MB"], rows) + note


def tidy(folder: Path) -> None:
    """Remove what killed writers left. Exits with a message if a run is writing."""
    with undisturbed(_stores(folder)) as busy:
        _require_idle(busy)
        _print(f"{remove(leftovers(folder)) / _MB:.1f} MB freed")


def drop(folder: Path, name: str) -> None:
    """Remove one line of the table, or one of its groups.

    Exits with a message if there is none of that name, or a run is writing to it.
    """
    place = (folder / name).resolve()
    if folder.resolve() not in place.parents or not place.is_dir():
        sys.exit(f"{folder} has no '{name}'")
    with undisturbed([store for store in _stores(folder) if place in (store, *store.parents)]) as busy:
        _require_idle(busy)
        freed = size(place)
        shutil.rmtree(place)
    _print(f"{freed / _MB:.1f} MB freed")


def _stores(folder: Path) -> list[Path]:
    groups = [folder.resolve() / group for group in _STORES]
    return sorted(store for group in groups if group.is_dir() for store in group.iterdir() if store.is_dir())


def _require_idle(busy: Path | None) -> None:
    if busy is not None:
        sys.exit(f"a run is writing to {busy}; wait for it, or stop it")


def _rows(store: Path) -> int:
    """The number of keys; those of a shard that is damaged, or dropped meanwhile, don't count."""
    found: set[str] = set()
    for index in files(store, "*.json"):
        with suppress(FileNotFoundError, ValueError):
            found.update(keys_of(index))
    return len(found)


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's result


if __name__ == "__main__":
    main()
