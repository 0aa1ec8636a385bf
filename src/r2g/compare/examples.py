"""Reports side by side, only of data that may be shown."""

from dataclasses import dataclass

import numpy as np

from r2g.compare.analyse import Comparison


@dataclass(frozen=True)
class Example:
    """One study: the report that was wanted, and what each arm wrote."""

    id: str
    reference: str
    written: tuple[tuple[str, str], ...]


def examples(found: Comparison) -> list[Example]:
    """Studies drawn by chance; none if any run's data isn't shareable, or where no run brought its texts."""
    if not found.shareable:
        return []
    texts = {}
    for row in found.scored:
        rows = row.arm.finished[0].predictions
        if rows:
            texts[row.name] = {str(one["id"]): one for one in rows}
    ids = found.base.arm.finished[0].ids
    if not texts:
        return []
    random = np.random.default_rng(found.spec.seed)
    picked = sorted(random.choice(len(ids), min(found.spec.examples, len(ids)), replace=False).tolist())
    first = next(iter(texts.values()))
    return [
        Example(
            ids[i],
            str(first[ids[i]]["reference"]),
            tuple((arm, str(rows[ids[i]]["hypothesis"])) for arm, rows in texts.items()),
        )
        for i in picked
        if all(ids[i] in rows for rows in texts.values())
    ]
