"""MIMIC-CXR-JPG: one entry a study, official split, films chosen by view."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tqdm import tqdm

from r2g.prepare.sections import Section, extract
from r2g.prepare.tally import PrepareError, Tally


class Views(Enum):
    """Which films of a study are taken: PA and AP, one of these, lateral ones, or all; PA before AP, then lateral."""

    frontal = "frontal"
    pa = "pa"
    ap = "ap"
    lateral = "lateral"
    all = "all"


_ORDER = ("PA", "AP", "LATERAL", "LL")
_POSITIONS = {  # as ViewPosition has them; LL is a lateral film too
    Views.frontal: ("PA", "AP"),
    Views.pa: ("PA",),
    Views.ap: ("AP",),
    Views.lateral: ("LATERAL", "LL"),
}
_SPLITS = {"train": "train", "validate": "val", "test": "test"}


@dataclass(frozen=True)
class _Film:
    id: str
    view: str


@dataclass(frozen=True)
class _Study:
    subject: str
    id: str

    @property
    def folder(self) -> str:
        return f"p{self.subject[:2]}/p{self.subject}"


def files_root(folder: Path) -> Path:
    """The folder that p10, p11, ... lie in: itself, or its `files`. Raises PrepareError if it is neither."""
    for root in (folder / "files", folder):
        if root.is_dir() and any(root.glob("p[0-9][0-9]")):
            return root
    raise PrepareError(f"{folder} holds neither p10, p11, ... nor files/p10, files/p11, ...")


def build(reports: Path, metadata: Path, split: Path, images: Path, section: Section, views: Views) -> Tally:
    """Every study of the metadata, as an entry or as a count of what was dropped.

    Image paths start at `files_root(images)`. Raises PrepareError for tables that are not as they should be.
    """
    tally = Tally()
    report_root, image_root = files_root(reports), files_root(images)
    splits = _read_splits(split)
    films = _read_films(metadata, views, tally)
    for study, taken in tqdm(films.items(), "Read reports", unit="study", disable=None):
        where = splits.get(study.id)
        if where is None:
            tally.drop("studies without a split")
            continue
        text = _report(report_root / study.folder / f"s{study.id}.txt", section, tally)
        paths = _paths(study, taken, image_root, tally) if text else []
        if text and paths:
            tally.add(where, f"s{study.id}", text, paths, f"p{study.subject}")
    return tally


def _read_splits(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in _rows(file, ("study_id", "split")):
        name = _SPLITS.get(row["split"])
        if name is None:
            raise PrepareError(f"{file}: unknown split '{row['split']}' (there are {', '.join(_SPLITS)})")
        if found.setdefault(row["study_id"], name) != name:
            raise PrepareError(f"{file}: study {row['study_id']} is in two splits")
    return found


def _read_films(file: Path, views: Views, tally: Tally) -> dict[_Study, list[_Film]]:
    """The films that are wanted, by study in the order of views, then of the file."""
    films: dict[_Study, list[_Film]] = defaultdict(list)
    for row in _rows(file, ("dicom_id", "subject_id", "study_id", "ViewPosition")):
        taken = films[_Study(row["subject_id"], row["study_id"])]
        film = _Film(row["dicom_id"], row["ViewPosition"].strip().upper())
        if views is Views.all or film.view in _POSITIONS[views]:
            taken.append(film)
        else:
            tally.drop("films of other views" if film.view else "films without a view position")
    for taken in films.values():
        taken.sort(key=lambda film: _ORDER.index(film.view) if film.view in _ORDER else len(_ORDER))
    return films


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a csv or csv.gz table, which must have these columns."""
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8", newline="") as stream:
        table = csv.DictReader(stream)
        missing = [name for name in columns if name not in (table.fieldnames or [])]
        if missing:
            raise PrepareError(f"{file} has no column {', '.join(missing)}")
        yield from table


def _report(file: Path, section: Section, tally: Tally) -> str | None:
    if not file.is_file():
        tally.drop("studies without a report file")
        return None
    try:
        text = extract(file.read_text(encoding="utf-8"), section)
    except UnicodeDecodeError:
        tally.drop("studies whose report is not UTF-8")
        return None
    if text is None:
        tally.drop(
            "studies without the section" if section is not Section.both else "studies without both sections"
        )
    return text


def _paths(study: _Study, films: list[_Film], root: Path, tally: Tally) -> list[str]:
    paths = [f"{study.folder}/s{study.id}/{film.id}.jpg" for film in films]
    there = [path for path in paths if (root / path).is_file()]
    if len(there) < len(paths):
        tally.drop("films without a file", len(paths) - len(there))
    if not there:
        tally.drop("studies without a film" if paths else "studies without a film of these views")
    return there
