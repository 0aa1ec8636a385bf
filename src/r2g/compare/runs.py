"""Run folders read and grouped into arms; an arm's name is what sets it apart."""

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from r2g import record
from r2g.core import keys, ngrams
from r2g.core import labels as tables
from r2g.core.convergence import Curve

PARTIAL = ".partial"
# Groups whose choice doesn't say what an arm is.
_SILENT = ("experiment", "paths", "cache", "track", "hydra")
_SLOTS = ("encoder", "projector", "llm", "data", "tuning", "train", "decode", "score")
# Settings that may differ without making another arm, or that repeat the rest.
_INERT = ("seed", "name", "paths", "track", "cache", "budget_match")


class RunsError(ValueError):
    """Run folders that can't be found or read; the message lists them all."""


@dataclass(frozen=True)
class Run:
    """One run's record. Curve, scores and n-grams are read when they are first asked for."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def arm(self) -> str:
        return str(self.record["arm"])

    @property
    def seed(self) -> int:
        return int(self.record["config"]["seed"])

    @property
    def status(self) -> str:
        return str(self.record["status"])

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """scores.jsonl."""
        return record.read_lines(self.folder / "scores.jsonl")

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(str(row["id"]) for row in self.rows)

    @cached_property
    def ngrams(self) -> ngrams.NGrams | None:
        """ngrams.npz, or None for a run that has none."""
        path = self.folder / ngrams.FILE
        return ngrams.load(path) if path.is_file() else None

    @cached_property
    def labels(self) -> tables.Labels | None:
        """labels.npz, or None for a run that has none."""
        path = self.folder / tables.FILE
        return tables.load(path) if path.is_file() else None

    @cached_property
    def predictions(self) -> list[dict[str, Any]]:
        """predictions.jsonl, which copied records may lack."""
        return record.read_lines(self.folder / "predictions.jsonl")

    @cached_property
    def thumbnails(self) -> dict[str, bytes]:
        """JPEGs of the films of some studies, by id; none where the data may not be shown."""
        place = self.folder / record.THUMBNAILS
        if self.record["data"].get("shareable") is not True:
            return {}
        files = {id_: place / record.thumbnail(i) for i, id_ in enumerate(self.ids)} if place.is_dir() else {}
        return {id_: path.read_bytes() for id_, path in files.items() if path.is_file()}

    @cached_property
    def curve(self) -> Curve | None:
        """The training loss, or None for a run that wrote none."""
        rows = [row for row in record.read_lines(self.folder / "curve.jsonl") if keys.TRAIN_LOSS in row]
        if not rows:
            return None
        axes = [
            [row[key] for row in rows]
            for key in (keys.STEP, keys.SAMPLES, keys.TOKENS, keys.SECONDS, keys.TRAIN_LOSS)
        ]
        return Curve(*axes)


@dataclass(frozen=True)
class Arm:
    """The runs that differ only in their seed, by seed. `name` is unique within a comparison."""

    hash: str
    name: str
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.status == "finished")

    @property
    def budget(self) -> Mapping[str, Any]:
        return next((run.record["budget"] for run in self.runs if "budget" in run.record), {})


def within(folder: str) -> str:
    """What `find` takes for a folder: a run's own as it is, of any other all runs in it."""
    return folder if (Path(folder) / "record.json").is_file() else str(Path(folder) / "*")


def find(patterns: Iterable[str], base: Path) -> list[Run]:
    """The runs that the globs meet, sorted by folder. Raises RunsError for a glob without any, or a broken record.

    A partial folder beside the finished one of the same run is what a second attempt left: the finished one counts.
    """
    problems, folders = [], dict[Path, None]()
    for pattern in patterns:
        # Path.glob refuses absolute patterns.
        found = [Path(p) for p in sorted(glob.glob(str(base / Path(pattern).expanduser())))]  # noqa: PTH207
        met = [p for p in found if (p / "record.json").is_file()]
        if not met:
            problems.append(f"no run at {pattern} (in {base})")
        folders |= dict.fromkeys(met)
    runs = []
    for folder in folders:
        if folder.name.endswith(PARTIAL) and folder.with_name(folder.name.removesuffix(PARTIAL)) in folders:
            continue
        try:
            runs.append(Run(folder, record.read(folder)))
        except record.RecordError as error:
            problems.append(str(error))
    if problems:
        raise RunsError("\n".join(problems))
    return runs


def group(runs: Sequence[Run], labels: Mapping[str, str]) -> list[Arm]:
    """The arms, by trainable parameters and then by name. Raises RunsError for a label that names no arm."""
    by_hash: dict[str, list[Run]] = {}
    for run in runs:
        by_hash.setdefault(run.arm, []).append(run)
    names = _names({arm: members[0].record for arm, members in by_hash.items()})
    unknown = sorted(set(labels) - set(names) - set(names.values()))
    if unknown:
        raise RunsError(
            f"labels that name no arm: {', '.join(unknown)} (arms: {', '.join(sorted(names.values()))})"
        )
    arms = []
    for arm, members in by_hash.items():
        name = labels.get(arm, labels.get(names[arm], names[arm]))
        arms.append(Arm(arm, name, tuple(sorted(members, key=lambda run: (run.seed, run.id)))))
    doubled = sorted({a.name for a in arms if sum(a.name == b.name for b in arms) > 1})
    if doubled:
        raise RunsError(f"arms that share a label: {', '.join(doubled)}")
    return sorted(arms, key=lambda arm: (arm.budget.get("trainable", 0), arm.name))


def _names(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A name for each arm: the choices that differ among them, and settings where those don't tell them apart."""
    if len(records) == 1:
        return {arm: str(record_.get("name", arm)) for arm, record_ in records.items()}
    choices = {
        arm: {k: str(v) for k, v in r.get("choices", {}).items() if k not in _SILENT}
        for arm, r in records.items()
    }
    told = {arm: " + ".join(parts) for arm, parts in _differing(_bundled(choices)).items()}
    names = {}
    for arm, name in told.items():
        alike = [other for other, told_other in told.items() if told_other == name]
        settings = _differing({a: _flat(records[a]["config"]) for a in alike}, keyed=True)[arm]
        names[arm] = " ".join(part for part in (name, ", ".join(settings)) if part) or arm
    return names


def _bundled(choices: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Only a sweep's own group, if there is one whose choices tell all arms apart: it stands for what it bundles."""
    for key in sorted({k for row in choices.values() for k in row} - set(_SLOTS)):
        if len({row.get(key) for row in choices.values()}) == len(choices):
            return {arm: {key: row[key]} if key in row else {} for arm, row in choices.items()}
    return choices


def _differing(rows: Mapping[str, Mapping[str, str]], keyed: bool = False) -> dict[str, list[str]]:
    """Of each row, the values that aren't the same in all rows."""
    columns = sorted({key for row in rows.values() for key in row})
    kept = [key for key in columns if len({row.get(key) for row in rows.values()}) > 1]
    show = "{0}={1}" if keyed else "{1}"
    return {arm: [show.format(key, row[key]) for key in kept if key in row] for arm, row in rows.items()}


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(tree, dict):
        return {prefix: str(tree)}
    pairs = [(f"{prefix}.{k}" if prefix else str(k), v) for k, v in tree.items() if prefix or k not in _INERT]
    return {key: value for name, branch in pairs for key, value in _flat(branch, name).items()}
