"""Reports side by side, only of data that may be shown."""

from dataclasses import dataclass

import numpy as np

from r2g.compare.analyse import Comparison


@dataclass(frozen=True)
class Example:
    """One study: the report that was wanted, what each arm wrote, and its film as a JPEG if a record has it."""

    id: str
    reference: str
    written: tuple[tuple[str, str], ...]
    film: bytes | None = None


def examples(found: Comparison) -> list[Example]:
    """Studies drawn by chance, among those with a picture if there are any.

    None if any run's data isn't shareable, or where no run brought its texts.
    """
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
    films: dict[str, bytes] = {}
    for row in found.scored:  # their data is the same, so anyone's picture will do
        for run in row.arm.finished:
            films = run.thumbnails | films
    ids = tuple(i for i in ids if i in films) or ids
    random = np.random.default_rng(found.spec.seed)
    picked = sorted(random.choice(len(ids), min(found.spec.examples, len(ids)), replace=False).tolist())
    first = next(iter(texts.values()))
    return [
        Example(
            ids[i],
            str(first[ids[i]]["reference"]),
            tuple((arm, str(rows[ids[i]]["hypothesis"])) for arm, rows in texts.items()),
            films.get(ids[i]),
        )
        for i in picked
        if all(ids[i] in rows for rows in texts.values())
    ]
