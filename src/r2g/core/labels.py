"""Which labels each report states, and which its study has: enough for label F1 of any resample, and no text."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

FILE = "labels.npz"
PARTS = ("f1", "precision", "recall")
_SCHEMA = 1
_SIDES = ("found", "known")


@dataclass(frozen=True)
class LabelScore:
    """A corpus score that is made of labels: `part` (f1, precision, recall) over the columns `labels` of a table.

    Micro: of the sums over all reports and labels; 0/0 is 0, but 1 where the other side is empty too. With `macro`,
    the mean of the labels' own among those that occur in the references; micro if none does. A score `alone` is one
    label's, and there is none where the label doesn't occur.
    """

    part: str
    labels: tuple[int, ...]
    macro: bool = False
    alone: bool = False

    def of(self, counts: np.ndarray) -> np.ndarray:
        """[draw] of summed counts [draw, 3 * label]: hits, then false, then missed. NaN where there is none."""
        sums = counts.reshape(len(counts), 3, -1)
        micro = _part(self.part, *sums.sum(axis=2).T)
        if not (self.macro or self.alone):
            return micro
        occurs = (sums[:, 0] + sums[:, 2]) > 0
        if self.alone:
            return np.where(occurs.any(axis=1), micro, np.nan)
        each = np.where(occurs, _part(self.part, sums[:, 0], sums[:, 1], sums[:, 2]), 0.0)
        many = occurs.sum(axis=1)
        return np.where(many > 0, each.sum(axis=1) / np.maximum(many, 1), micro)


@dataclass(frozen=True)
class LabelTable:
    """What a reader of labels found in each report (`found`), and what each study has (`known`).

    `scores` are the corpus scores that come from it, by name.
    """

    names: tuple[str, ...]
    found: np.ndarray  # bool [report, label]
    known: np.ndarray  # bool [report, label]
    scores: Mapping[str, LabelScore]

    def counts(self, score: LabelScore) -> np.ndarray:
        """[report, 3 * label] of the score's labels: hits, then false, then missed."""
        found, known = (side[:, list(score.labels)] for side in (self.found, self.known))
        return np.concatenate([found & known, found & ~known, known & ~found], axis=1).astype(float)

    def moved(self, source: np.ndarray) -> "LabelTable":
        """With each report given to another study: study i gets what was written for `source[i]`."""
        return replace(self, found=self.found[source])


@dataclass(frozen=True)
class Labels:
    """The tables of a run's reports, in the order of `ids`."""

    ids: tuple[str, ...]
    tables: Mapping[str, LabelTable]

    def table_of(self, score: str) -> LabelTable | None:
        """The table that a score comes from, None if there is none."""
        return next((table for table in self.tables.values() if score in table.scores), None)


def save(path: Path, labels: Labels) -> None:
    """Write the file whole or not at all: 2 bits a report and label."""
    about = {
        key: {"names": table.names, "scores": {name: asdict(score) for name, score in table.scores.items()}}
        for key, table in labels.tables.items()
    }
    arrays: dict[str, Any] = {
        "schema": np.array(_SCHEMA),
        "ids": np.array(labels.ids, dtype=np.str_),
        "tables": np.array(json.dumps(about)),
    }
    for key, table in labels.tables.items():
        arrays |= {f"{key}_{side}": np.packbits(getattr(table, side), axis=1) for side in _SIDES}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        np.savez_compressed(file, **arrays)
    draft.replace(path)


def load(path: Path) -> Labels:
    """Read what `save` wrote. Raises ValueError when the file is of another schema, OSError when it isn't there."""
    with np.load(path, allow_pickle=False) as file:
        if "schema" not in file or int(file["schema"]) != _SCHEMA:
            raise ValueError(f"{path} is not a file of labels of schema {_SCHEMA}")
        tables = {}
        for key, about in json.loads(str(file["tables"])).items():
            names = tuple(about["names"])
            found, known = (
                np.unpackbits(file[f"{key}_{side}"], axis=1, count=len(names)).astype(bool) for side in _SIDES
            )
            scores = {name: _score(told) for name, told in about["scores"].items()}
            tables[key] = LabelTable(names, found, known, scores)
        return Labels(tuple(str(i) for i in file["ids"]), tables)


def _score(told: Mapping[str, Any]) -> LabelScore:
    return LabelScore(**{**told, "labels": tuple(told["labels"])})


def over(part: str, names: Sequence[str], chosen: Sequence[str], macro: bool = False) -> LabelScore:
    """A score over some of a table's labels, given by name."""
    return LabelScore(part, tuple(names.index(name) for name in chosen), macro)


def single(part: str, names: Sequence[str], label: str) -> LabelScore:
    """A score of one label, given by name."""
    return LabelScore(part, (names.index(label),), alone=True)


def _part(part: str, hits: np.ndarray, false: np.ndarray, missed: np.ndarray) -> np.ndarray:
    if part == "precision":
        return _share(hits, hits + false, missed)
    if part == "recall":
        return _share(hits, hits + missed, false)
    return _share(2 * hits, 2 * hits + false + missed, np.zeros_like(hits))


def _share(top: np.ndarray, bottom: np.ndarray, other: np.ndarray) -> np.ndarray:
    """top / bottom; 0/0 is 1 where the other side is empty too, else 0, as the metrics have it."""
    empty = np.where(other > 0, 0.0, 1.0)
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), empty)
