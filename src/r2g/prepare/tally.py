"""The entries that make an annotation file, and the count of all that was left out."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from r2g.core.tables import table

SPLITS = ("train", "val", "test")


class PrepareError(ValueError):
    """The originals are not as they should be, or nothing came of them."""


class Tally:
    """Entries by split, and how many studies or films were dropped for which reason."""

    def __init__(self) -> None:
        self.entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        self.dropped: Counter[str] = Counter()

    def add(self, split: str, study: str, report: str, image_path: list[str], patient: str) -> None:
        """One study in R2Gen's format, with its patient."""
        entry = {"id": study, "report": report, "image_path": image_path, "patient": patient}
        self.entries[split].append(entry)

    def drop(self, reason: str, count: int = 1) -> None:
        """Counted under `reason`, which starts with the unit ("studies without ...")."""
        self.dropped[reason] += count

    def summary(self) -> str:
        """Studies, films and patients of each split, then what was dropped."""
        rows = []
        for split, entries in self.entries.items():
            films = sum(len(entry["image_path"]) for entry in entries)
            rows.append([split, len(entries), films, len({entry["patient"] for entry in entries})])
        kept = table(["split", "studies", "films", "patients"], rows)
        lost = (
            table(["dropped", "number"], sorted(self.dropped.items()))
            if self.dropped
            else "nothing was dropped"
        )
        return f"{kept}\n\n{lost}\n"

    def write(self, out: Path) -> None:
        """Whole or not at all. Raises PrepareError when a split is empty: no dataset would take it."""
        empty = [split for split, entries in self.entries.items() if not entries]
        if empty:
            raise PrepareError(f"{out} was not written: no studies in {', '.join(empty)}")
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = out.with_name(f"{out.name}.{os.getpid()}.partial")
        scratch.write_text(json.dumps(self.entries, ensure_ascii=False), encoding="utf-8")
        scratch.replace(out)
