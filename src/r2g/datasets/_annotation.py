"""R2Gen's annotation format: a JSON file of entries by split, checked as a whole, and a folder of images."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets

from r2g.core.registry import nearest
from r2g.datasets._clean import clean
from r2g.datasets.base import Cleaner, Dataset, Section, Splits

SPLITS = ("train", "val", "test")
FEATURES = datasets.Features(
    id=datasets.Value("string"),
    report=datasets.Value("string"),
    image_path=datasets.List(datasets.Value("string")),
    labels=datasets.List(datasets.Value("string")),
    patient=datasets.Value("string"),
)
_NAMED = 5  # how many culprits of one kind of mistake are named
_THREADS = 16  # a look-up waits on the (network) file system, not on the processor
_BLOCK = 256  # files a task: a task of its own for each would cost more than the look-up

Row = dict[str, Any]


class AnnotationError(ValueError):
    """All mistakes of an annotation file; `problems` lists them, each with the entries that make it."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join([f"{file} can't be used:", *[f"  {p}" for p in problems]]))


def read_annotation(file: Path, images: Path, cleaner: Cleaner, max_views: int, check_files: bool) -> Splits:
    """The three splits of `file`, in its order; no image is opened.

    An entry has `id`, `report` and `image_path` (a list, under `images`; the first `max_views` are used).
    It may have `labels` (a list) and `patient` (or `subject_id`, as in R2Gen's MIMIC-CXR file); other keys
    are passed over. `check_files` looks for every image that is used: seconds for 100,000 local files,
    minutes on a slow network share. Raises AnnotationError with all mistakes.
    """
    content = _parse(file)
    problems: dict[str, list[str]] = defaultdict(list)
    _check_splits(content, problems)
    rows = {split: _rows(split, content.get(split, []), images, max_views, problems) for split in SPLITS}
    _check_overlap(rows, problems)
    if check_files:
        _check_files(rows, images, problems)
    lines = [_line(what, culprits) for what, culprits in problems.items() if culprits]
    if lines:
        raise AnnotationError(file, lines)
    for row in (row for split in SPLITS for row in rows[split]):
        row["report"] = clean(row["report"], cleaner)
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows[split], features=FEATURES) for split in SPLITS}
    )


@dataclass(frozen=True)
class R2GenFolder(Dataset):
    """A published set in R2Gen's layout: annotation.json and images/ in `root`, or each given by itself.

    Patients' data under an agreement or a licence: never shown. A subclass says where it can be had
    (`source`) and which environment variable its YAML reads the root from. `section` states which part of the
    original reports the file holds; protocols are held against it.
    """

    source: ClassVar[str]
    variable: ClassVar[str]
    root: Path | None
    annotation: Path | None
    images: Path | None
    section: Section
    cleaner: Cleaner
    max_views: int
    check_files: bool

    def __post_init__(self) -> None:
        check_views(self.max_views)

    @property
    def shareable(self) -> bool:
        return False

    @property
    def views(self) -> int:
        return self.max_views

    def load(self, cache: Path, seed: int) -> Splits:
        """As it stands in the files; neither the cache nor the seed plays a part. Raises AnnotationError."""
        del cache, seed
        remedy = (
            f"{self.source}\nThen set the environment variable {self.variable} or data.root to the folder of "
            "annotation.json and images/, or set data.annotation and data.images one by one."
        )
        file, images = require(self.root, self.annotation, self.images, remedy)
        return read_annotation(file, images, self.cleaner, self.max_views, self.check_files)


def require(
    root: Path | None, annotation: Path | None, images: Path | None, remedy: str
) -> tuple[Path, Path]:
    """The annotation file and the image folder: annotation.json and images/ in `root` unless they are given.

    Raises FileNotFoundError that says what is missing and ends with `remedy`.
    """
    file = annotation if annotation is not None or root is None else root / "annotation.json"
    folder = images if images is not None or root is None else root / "images"
    missing = [] if file is not None and file.is_file() else [f"annotation file: {file or 'not set'}"]
    missing += [] if folder is not None and folder.is_dir() else [f"image folder: {folder or 'not set'}"]
    if file is None or folder is None or missing:
        raise FileNotFoundError("\n".join(["the data is not there", *[f"  no {m}" for m in missing], remedy]))
    return file, folder


def check_views(max_views: int) -> None:
    """Raises ValueError unless at least one view is asked for."""
    if max_views < 1:
        raise ValueError(f"max_views must be at least 1, got {max_views}")


def _parse(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AnnotationError(file, [f"is not JSON in UTF-8: {error}"]) from error
    if not isinstance(content, dict):
        raise AnnotationError(
            file, [f"must hold the splits {', '.join(SPLITS)}, holds a {type(content).__name__}"]
        )
    return content


def _check_splits(content: dict[str, Any], problems: dict[str, list[str]]) -> None:
    for name in sorted(set(content) - set(SPLITS)):
        problems[f"unknown split (there are {', '.join(SPLITS)})"].append(
            f"'{name}'{nearest(name, list(SPLITS))}"
        )
    for split in SPLITS:
        if not isinstance(content.get(split, []), list):
            problems["splits that are not a list"].append(split)
            content[split] = []
        elif not content.get(split):
            problems["empty splits"].append(split)


def _rows(
    split: str, entries: Sequence[Any], images: Path, max_views: int, problems: dict[str, list[str]]
) -> list[Row]:
    rows = []
    root = os.path.abspath(images)  # noqa: PTH100 - Path.absolute keeps "..", which would split one image in two
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            problems["entries that are not a mapping"].append(f"{split}[{position}]")
            continue
        name = _text(entry.get("id"))
        faults = _faults(entry)
        for fault in faults:
            problems[f"entries {fault}"].append(f"{split}[{position}]" + (f" '{name}'" if name else ""))
        if not faults:
            rows.append(_row(entry, root, max_views))
    return rows


def _faults(entry: Row) -> list[str]:
    """What is wrong with one entry, in words that follow "entries"."""
    paths, labels, report = entry.get("image_path"), entry.get("labels"), entry.get("report")
    checks = {
        "without id": _text(entry.get("id")) is not None,
        "without report": isinstance(report, str) and report.strip() != "",
        "without images (image_path: a list of paths)": bool(paths) and _texts(paths),
        "whose labels are not a list of names": labels is None or _texts(labels),
    }
    return [fault for fault, ok in checks.items() if not ok]


def _row(entry: Row, root: str, max_views: int) -> Row:
    patient = entry.get("patient")
    return {
        "id": _text(entry["id"]),
        "report": entry["report"],
        "image_path": [os.path.join(root, p) for p in entry["image_path"][:max_views]],  # noqa: PTH118 - 10x faster
        "labels": entry.get("labels"),
        "patient": _text(entry.get("subject_id") if patient is None else patient),
    }


def _text(value: Any) -> str | None:
    """An id as text: MIMIC-CXR's are numbers. None for nothing, blanks and other types."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)


def _check_overlap(rows: dict[str, list[Row]], problems: dict[str, list[str]]) -> None:
    for what, column in (("ids", "id"), ("patients", "patient"), ("image files", "image_path")):
        where: dict[str, set[str]] = defaultdict(set)
        for split in SPLITS:
            for row in rows[split]:
                for value in row[column] if isinstance(row[column], list) else [row[column]]:
                    where[value].add(split)
        shared = [f"'{v}' ({', '.join(sorted(w))})" for v, w in where.items() if v is not None and len(w) > 1]
        if shared:
            problems[f"{what} in more than one split"] = shared
    for split in SPLITS:
        counts = Counter(row["id"] for row in rows[split])
        problems["ids that occur twice"] += [f"'{v}' ({split})" for v, count in counts.items() if count > 1]


def _check_files(rows: dict[str, list[Row]], images: Path, problems: dict[str, list[str]]) -> None:
    paths = [path for split in SPLITS for row in rows[split] for path in row["image_path"]]
    blocks = [paths[start : start + _BLOCK] for start in range(0, len(paths), _BLOCK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        missing = [path for found in pool.map(_missing, blocks) for path in found]
    if missing:
        problems[f"missing image files, of {len(paths)} under {images}"] = missing


def _missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 - a Path each costs more


def _line(what: str, named: Sequence[str]) -> str:
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"{what}: {len(named)}: {', '.join(named[:_NAMED])}{more}"
