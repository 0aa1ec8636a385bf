"""python -m r2g.score PREDICTIONS: score reports under one protocol or all, and say how far the numbers move.

PREDICTIONS is a run's folder, its predictions.jsonl, or any CSV or JSONL file with id, reference and hypothesis. A
protocol that lacks what it needs (the annotation file, a tokenizer), or is about other data, is told as unavailable,
with the reason.
"""

import argparse
import csv
import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from r2g import protocol
from r2g.config.paths import config_dir
from r2g.config.resolve import ConfigError, from_tree, read_settings
from r2g.config.schema import Protocol
from r2g.core import slots
from r2g.core.registry import UnknownName
from r2g.core.tables import table
from r2g.core.types import Cleaner, Prediction, Scores, Section
from r2g.datasets.base import Dataset

_COLUMNS = ("id", "reference", "hypothesis")
_STAMPED = ("record.json", "evaluation.json")


class BadPredictions(ValueError):
    """A file of predictions that can't be scored; the message lists all its mistakes."""


@dataclass(frozen=True)
class Scored:
    """One protocol's corpus scores; `changed` counts references that aren't scored as they stand in the file.

    `unknown` names the protocol's rules on data that couldn't be checked, since nobody says what this data is like.
    `unavailable` says what the protocol lacks; then there are no scores.
    """

    stamp: dict[str, str]
    scores: dict[str, float]
    absent: dict[str, str]
    changed: int
    unknown: list[str]
    unavailable: str | None = None


def main() -> None:
    """The command line; the exit status is 1 when none of the protocols asked for could be had."""
    chosen = _parser().parse_args()
    names = chosen.protocol or ["all"]
    try:
        wanted = _protocols(names)
        predictions, source = read_predictions(chosen.predictions)
        material = _material(chosen, source, predictions)
        metrics = _metrics(chosen.score)
    except (BadPredictions, ConfigError, UnknownName, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    found = [score(predictions, rules, material, metrics) for rules in wanted]
    text = (
        json.dumps([asdict(row) for row in found], indent=1)
        if chosen.json
        else _show(found, len(predictions))
    )
    print(text, flush=True)  # noqa: T201 - what a command says to its user
    asked = {rules.name for rules in wanted} - ({protocol.BASE} - set(names))
    if asked and all(row.unavailable for row in found if row.stamp["name"] in asked):
        sys.exit(1)


def score(
    predictions: Sequence[Prediction],
    rules: Protocol,
    material: protocol.Material,
    metrics: Mapping[str, Any],
) -> Scored:
    """The predictions' corpus scores under one protocol."""
    try:
        judge = protocol.Judge(rules, material)
        judged = judge(predictions)
    except protocol.Unavailable as error:
        return Scored(protocol.stamp(rules), {}, {}, 0, [], str(error))
    others = {label: rules.other_labels(metric.labeller) for label, metric in metrics.items()}
    results: dict[str, Scores] = {
        label: metric.score(judged) for label, metric in metrics.items() if others[label] is None
    }
    absent = {label: f"under {rules.name}: {why}" for label, why in others.items() if why}
    pairs = zip(predictions, judged, strict=True)
    return Scored(
        judge.stamp(judged),
        {name: value for result in results.values() for name, value in result.corpus.items()},
        absent | {label: result.absent for label, result in results.items() if result.absent},
        sum(before.reference.split() != after.reference.split() for before, after in pairs),
        rules.unknown(material.section, material.films),
    )


def read_predictions(path: Path) -> tuple[list[Prediction], dict[str, Any]]:
    """The predictions, and the data settings of a record beside them; without one, nothing is known of the data.

    Raises BadPredictions with all mistakes, FileNotFoundError when nothing is there.
    """
    file = path / "predictions.jsonl" if path.is_dir() else path
    rows = _rows(file)
    places: dict[str, list[str]] = {}
    for line, row in enumerate(rows, 1):
        for column in _COLUMNS:
            if not isinstance(row.get(column), str) and not (
                column == "id" and isinstance(row.get("id"), int)
            ):
                places.setdefault(f"no text in '{column}'", []).append(f"row {line}")
    for name, count in Counter(str(row.get("id")) for row in rows if "id" in row).items():
        if count > 1:
            places.setdefault("ids that occur twice", []).append(name)
    problems = [f"{what}: {len(p)}: {', '.join(p[:5])}" for what, p in places.items()] or ["no row"][
        bool(rows) :
    ]
    if problems:
        raise BadPredictions("\n".join([f"{file} can't be scored:", *[f"  {p}" for p in problems]]))
    return [_prediction(row) for row in rows], _data_beside(file)


def _rows(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        if file.suffix == ".csv":
            return [dict(row) for row in csv.DictReader(lines)]
        if file.suffix != ".jsonl":
            raise BadPredictions(f"{file}: the name must end with .csv or .jsonl")
        try:
            rows = [json.loads(line) for line in lines if line.strip()]
        except json.JSONDecodeError as error:
            raise BadPredictions(f"{file}: not one JSON object a line: {error}") from error
    return [row if isinstance(row, dict) else {} for row in rows]


def _prediction(row: Mapping[str, Any]) -> Prediction:
    labels = row.get("labels")
    known = tuple(labels) if isinstance(labels, list) else None
    return Prediction(str(row["id"]), row["reference"], row["hypothesis"], known)


def _data_beside(file: Path) -> dict[str, Any]:
    for name in _STAMPED:
        if (file.parent / name).is_file():
            return json.loads((file.parent / name).read_text()).get("config", {}).get("data", {})
    return {}


def _material(
    chosen: argparse.Namespace, source: Mapping[str, Any], predictions: Sequence[Prediction]
) -> protocol.Material:
    train = originals = tokenizer = None
    if chosen.annotation is not None:
        train, originals = _originals(chosen.annotation)
        if not any(p.id in originals for p in predictions):
            _LOG.warning("none of the predictions' ids is in %s: is it the right file?", chosen.annotation)
    else:
        train, originals = _rewritten(source, predictions)
    if chosen.tokenizer is not None:
        from transformers import AutoTokenizer

        if not chosen.tokenizer.is_dir():
            raise FileNotFoundError(f"no folder {chosen.tokenizer}")
        tokenizer = AutoTokenizer.from_pretrained(chosen.tokenizer, local_files_only=True)
    given = Cleaner(chosen.cleaned or source.get("cleaner", "none"))
    section = Section(chosen.section or source.get("section", "as_given"))
    films = chosen.films or source.get("max_views")
    return protocol.Material(given, originals, train, Cleaner.none, tokenizer, section, films)


def _rewritten(
    source: Mapping[str, Any], predictions: Sequence[Prediction]
) -> tuple[list[str] | None, dict[str, str] | None]:
    """Train's reports and all reports by id of data that is written by a rule, phantoms, by a record's settings."""
    if "kind" not in source or slots.DATASETS.get(source["kind"]).originals is Dataset.originals:
        return None, None
    splits = from_tree(Annotated[Any, slots.DATASETS], dict(source), "data").originals()
    reports = {name: text for split in splits.values() for name, text in split.items()}
    if any(reports.get(p.id) != p.reference for p in predictions):
        _LOG.warning(
            "the run's references are not those of its data settings here: another version wrote them"
        )
        return None, None
    return list(splits["train"].values()), reports


def _originals(file: Path) -> tuple[list[str], dict[str, str]]:
    """Train's reports, and all reports by id."""
    try:
        splits = json.loads(file.read_text(encoding="utf-8"))
        train = [entry["report"] for entry in splits["train"]]
        return train, {str(entry["id"]): entry["report"] for split in splits.values() for entry in split}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{file} is not in R2Gen's format {{train: [{{id, report}}, ...], ...}}: {told}"
        ) from error


def _protocols(asked: Sequence[str]) -> list[Protocol]:
    """Those asked for without repeats; the base comes first, since the others are held against it."""
    every = protocol.names() if "all" in asked else [protocol.BASE, *asked]
    return list({rules.name: rules for name in every for rules in protocol.read(name)}.values())


def _metrics(choice: str) -> dict[str, Any]:
    file = Path(config_dir()) / "score" / f"{choice}.yaml"
    if not file.is_file():
        choices = sorted(path.stem for path in file.parent.glob("*.yaml"))
        raise UnknownName(f"unknown score '{choice}' (choices: {', '.join(choices)})")
    return read_settings(dict[str, Annotated[Any, slots.METRICS]], file, "metrics")


def _show(found: Sequence[Scored], reports: int) -> str:
    """A row of scores for each protocol, and one that says how far they are from the base's."""
    base = found[0].scores
    names = [name for name in base if "/" not in name]
    rows: list[list[object]] = []
    for row in found:
        title = f"{row.stamp['name']} {row.stamp['hash']}"
        told = [row.scores.get(name) for name in names]
        rows.append([title, None if row.unavailable else row.changed, *told])
        if row is not found[0] and row.scores:
            rows.append(
                ["  moves by", None, *[row.scores[n] - base[n] if n in row.scores else None for n in names]]
            )
    lines = [f"{reports} reports", "", table(["protocol", "changed", *names], rows), ""]
    lines += [f"unavailable: {row.stamp['name']}: {row.unavailable}" for row in found if row.unavailable]
    lines += [f"{' and '.join(row.unknown)} not known: {row.stamp['name']}" for row in found if row.unknown]
    absent = {f"absent: {label}: {why}" for row in found for label, why in row.absent.items()}
    return "\n".join([*lines, *sorted(absent)]).rstrip()


def _parser() -> argparse.ArgumentParser:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m r2g.score", description=__doc__, formatter_class=about)
    parser.add_argument("predictions", type=Path, help="a run's folder, or a .jsonl or .csv file")
    wanted = "a protocol, a family of them, or all (the default); may be given several times"
    parser.add_argument("--protocol", action="append", metavar="NAME", help=wanted)
    annotation = "R2Gen's JSON file with the original reports: vocabularies come from its train"
    parser.add_argument("--annotation", type=Path, metavar="FILE", help=annotation)
    tokenizer = "folder of the tokenizer that r2gengpt cuts references with (the paper's is Llama-2's)"
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help=tokenizer)
    cleaned = (
        "which cleaner has been over the references; told by the record beside a run's predictions, else none"
    )
    parser.add_argument("--cleaned", choices=[c.value for c in Cleaner], help=cleaned)
    section = "which section of the original reports the file holds; told by a run's record, else not known"
    parts = [part.value for part in Section if part is not Section.as_given]
    parser.add_argument("--section", choices=parts, help=section)
    films = "the most films a study; told by a run's record, else not known"
    parser.add_argument("--films", type=int, metavar="N", help=films)
    metrics = "whose metrics: a file of conf/score (default: nlg)"
    parser.add_argument("--score", default="nlg", metavar="NAME", help=metrics)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


_LOG = logging.getLogger("r2g.score")

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
