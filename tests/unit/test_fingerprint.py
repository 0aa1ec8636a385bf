"""The data fingerprint follows the content and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from r2g.datasets import _fingerprint
from r2g.datasets._annotation import FEATURES
from r2g.datasets._fingerprint import fingerprint


def study(folder: Path, name: str, views: int = 2) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}{view}.png" for view in range(views)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    return {
        "id": name,
        "report": f"report {name}",
        "image_path": [str(path) for path in paths],
        "labels": ["edema", "nodule"],
        "patient": None,
    }


def splits(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        "train": [study(folder, "a"), study(folder, "b")],
        "val": [study(folder, "c")],
        "test": [study(folder, "d")],
    }


def taken(rows: dict[str, list[dict[str, Any]]], cache: Path) -> str:
    data = {name: Dataset.from_list(split, features=FEATURES) for name, split in rows.items()}
    return fingerprint(DatasetDict(data), cache)


def test_place_and_order_do_not_count(tmp_path: Path) -> None:
    here, there = splits(tmp_path / "here"), splits(tmp_path / "there")
    there["train"].reverse()
    first, second = taken(here, tmp_path / "c1"), taken(there, tmp_path / "c2")
    assert first == second
    assert len(first) == 32


CHANGES: dict[str, Callable[[dict[str, list[dict[str, Any]]]], Any]] = {
    "report": lambda rows: rows["train"][0].update(report="other"),
    "id": lambda rows: rows["train"][0].update(id="other"),
    "labels": lambda rows: rows["train"][0].update(labels=["edema"]),
    "unknown labels": lambda rows: rows["train"][0].update(labels=None),
    "fewer views": lambda rows: rows["train"][0]["image_path"].pop(),
    "order of views": lambda rows: rows["train"][0]["image_path"].reverse(),
    "image": lambda rows: Path(rows["val"][0]["image_path"][0]).write_bytes(b"x"),
    "split": lambda rows: rows["test"].append(rows["train"].pop()),
    "a study less": lambda rows: rows["train"].pop(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_content_counts(tmp_path: Path, change: str) -> None:
    rows = splits(tmp_path)
    before = taken(rows, tmp_path / "cache")
    CHANGES[change](rows)
    assert taken(rows, tmp_path / "cache") != before


def test_known_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = splits(tmp_path)
    before = taken(rows, tmp_path / "cache")
    read: list[str] = []
    real = _fingerprint._sha256
    monkeypatch.setattr(_fingerprint, "_sha256", lambda path: (read.append(path), real(path))[1])
    assert taken(rows, tmp_path / "cache") == before
    assert read == []
    touched = rows["test"][0]["image_path"][1]
    os.utime(touched, ns=(1, 1))
    assert taken(rows, tmp_path / "cache") == before
    assert read == [touched]


def test_an_interrupted_look_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = splits(tmp_path)
    whole = taken(rows, tmp_path / "other")
    monkeypatch.setattr(_fingerprint, "_BLOCK", 3)
    lost = Path(rows["test"][0]["image_path"][1])
    real = _fingerprint._sha256

    def interrupted(path: str) -> str:
        if path == str(lost):
            raise OSError("the disk went away")
        return real(path)

    monkeypatch.setattr(_fingerprint, "_sha256", interrupted)
    with pytest.raises(OSError, match="went away"):
        taken(rows, tmp_path / "cache")
    read: list[str] = []
    monkeypatch.setattr(_fingerprint, "_sha256", lambda path: (read.append(path), real(path))[1])
    assert taken(rows, tmp_path / "cache") == whole
    assert str(lost) in read
    assert len(read) == 2


def test_a_damaged_cache_says_so(tmp_path: Path) -> None:
    rows = splits(tmp_path)
    taken(rows, tmp_path / "cache")
    [file] = (tmp_path / "cache/fingerprints").iterdir()
    file.write_text('{"half')
    with pytest.raises(ValueError, match="damaged; delete it"):
        taken(rows, tmp_path / "cache")


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    rows = splits(tmp_path)
    Path(rows["val"][0]["image_path"][0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"c0\.png"):
        taken(rows, tmp_path / "cache")


def test_the_value_itself_is_kept(tmp_path: Path) -> None:
    """Records hold fingerprints: another value for the same data needs another scheme's name."""
    assert taken(splits(tmp_path), tmp_path / "cache") == "584ac6083b33963ea3e36a2e1ecad281"
