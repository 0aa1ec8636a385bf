"""Annotation files: what is read, and every mistake in one message."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from r2g.core.slots import DATASETS
from r2g.datasets._annotation import AnnotationError
from r2g.datasets.base import Cleaner, Dataset, Section

REPO = Path(__file__).resolve().parents[2]


def entry(name: str, **changes: Any) -> dict[str, Any]:
    return {"id": name, "report": f"Report of {name}.", "image_path": [f"{name}/0.png"], **changes}


def three(**changes: Any) -> dict[str, Any]:
    return {"train": [entry("a")], "val": [entry("b")], "test": [entry("c")], **changes}


def write(folder: Path, content: Any, films: bool = True) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotation.json").write_text(json.dumps(content), encoding="utf-8")
    for name in [e["image_path"] for split in content.values() for e in split] if films else []:
        for path in name:
            (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "images" / path).write_bytes(b"film")
    return folder


def source(folder: Path, **changes: Any) -> Dataset:
    settings = {
        "annotation": folder / "annotation.json",
        "images": folder / "images",
        "section": Section.as_given,
        "cleaner": Cleaner.none,
        "max_views": 2,
        "check_files": True,
        "share": False,
    }
    return DATASETS.get("annotation")(**{**settings, **changes})


def problems(folder: Path, content: Any, **changes: Any) -> str:
    write(folder, content, films=False)
    with pytest.raises(AnnotationError) as caught:
        source(folder, **{"check_files": False, **changes}).load(folder, 0)
    return str(caught.value)


def test_reads_all_columns(tmp_path: Path) -> None:
    views = ["c/0.png", "c/1.png", "c/2.png"]
    known = entry("c", image_path=views, labels=["effusion"], patient="p", license="CC BY")
    write(tmp_path, three(test=[known]))
    data = source(tmp_path, cleaner=Cleaner.iu).load(tmp_path / "cache", seed=3)
    assert list(data) == ["train", "val", "test"]
    assert data["train"][0] == {
        "id": "a",
        "report": "report of a .",
        "image_path": [str(tmp_path / "images/a/0.png")],
        "labels": None,
        "patient": None,
    }
    row = data["test"][0]
    assert (row["labels"], row["patient"]) == (["effusion"], "p")
    assert row["image_path"] == [str(tmp_path / "images" / view) for view in views[:2]]


def test_a_relative_folder_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data", three())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    [path] = source(Path("../data")).load(tmp_path, 0)["val"][0]["image_path"]
    assert path == str(tmp_path / "data/images/b/0.png")


def test_numbers_are_taken_as_ids_and_subject_id_as_patient(tmp_path: Path) -> None:
    write(tmp_path, three(train=[entry("a", id=7, subject_id=10000032, study_id=5)]))
    row = source(tmp_path).load(tmp_path, 0)["train"][0]
    assert (row["id"], row["patient"]) == ("7", "10000032")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    content = {
        "train": [
            entry("a", report="  "),
            entry("a2", image_path=[]),
            {"report": "x", "image_path": ["y"]},
            "z",
        ],
        "val": [],
        "validation": [entry("v")],
        "test": [entry("c"), entry("c"), entry("d", labels="effusion"), entry("e", image_path="one.png")],
    }
    message = problems(tmp_path, content)
    for expected in (
        "entries without report: 1: train[0] 'a'",
        "entries without images (image_path: a list of paths): 2: train[1] 'a2', test[3] 'e'",
        "entries without id: 1: train[2]",
        "entries that are not a mapping: 1: train[3]",
        "entries whose labels are not a list of names: 1: test[2] 'd'",
        "unknown split (there are train, val, test): 1: 'validation'",
        "empty splits: 1: val",
        "ids that occur twice: 1: 'c' (test)",
    ):
        assert expected in message
    assert str(tmp_path / "annotation.json") in message


def test_a_missing_split_is_an_empty_one(tmp_path: Path) -> None:
    assert "empty splits: 2: val, test" in problems(tmp_path, {"train": [entry("a")]})


def test_patients_and_ids_in_two_splits_are_refused(tmp_path: Path) -> None:
    content = {
        "train": [entry("a", patient="P1"), entry("b", patient="P2")],
        "val": [entry("a", patient="P3")],
        "test": [entry("c", patient="P1")],
    }
    message = problems(tmp_path, content)
    assert "patients in more than one split: 1: 'P1' (test, train)" in message
    assert "ids in more than one split: 1: 'a' (train, val)" in message
    assert "P2" not in message


def test_a_film_in_two_splits_is_refused(tmp_path: Path) -> None:
    content = three(val=[entry("b", image_path=["b/0.png", "a/0.png"])])
    content["train"] = [entry("a", image_path=["a/0.png"]), entry("d", image_path=["a/0.png"])]
    message = problems(tmp_path, content)
    assert "image files in more than one split: 1: " in message
    assert "a/0.png' (train, val)" in message


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    message = problems(tmp_path, three(train=[entry(f"n{i}", report="") for i in range(9)]))
    assert "entries without report: 9: train[0] 'n0'" in message
    assert message.count("train[") == 5
    assert "and 4 more" in message


def test_missing_files_are_named_unless_nobody_looks(tmp_path: Path) -> None:
    write(tmp_path, three())
    (tmp_path / "images/b/0.png").unlink()
    with pytest.raises(AnnotationError, match=r"missing image files, of 3 .*: 1: .*b/0\.png"):
        source(tmp_path).load(tmp_path, 0)
    assert len(source(tmp_path, check_files=False).load(tmp_path, 0)["val"]) == 1


def test_a_view_that_is_not_used_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path, three(val=[entry("b", image_path=["b/0.png", "b/1.png"])]))
    (tmp_path / "images/b/1.png").unlink()
    assert len(source(tmp_path, max_views=1).load(tmp_path, 0)["val"][0]["image_path"]) == 1


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_what_is_no_annotation_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, three())
    (tmp_path / "annotation.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"annotation\.json can't be used"):
        source(tmp_path).load(tmp_path, 0)


def test_unset_paths_say_which_keys_to_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"(?s)annotation file: not set.*data\.annotation"):
        source(tmp_path, annotation=None).load(tmp_path, 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [("iu_xray", ("R2G_IU_XRAY", "openi.nlm.nih.gov")), ("mimic_cxr", ("R2G_MIMIC_CXR", "physionet.org"))],
)
@pytest.mark.parametrize("root", [None, "nowhere"])
def test_published_sets_say_where_they_can_be_had(
    tmp_path: Path, name: str, said: tuple[str, ...], root: str | None
) -> None:
    folder = None if root is None else tmp_path / root
    with pytest.raises(FileNotFoundError) as caught:
        published(name, folder).load(tmp_path, 0)
    for words in (*said, "data.root", "R2Gen", "annotation file", "image folder"):
        assert words in str(caught.value)


def published(name: str, root: Path | None, **changes: Any) -> Dataset:
    settings = {
        "annotation": None,
        "images": None,
        "section": Section.findings,
        "cleaner": Cleaner.none,
        "max_views": 2,
        "check_files": True,
    }
    return DATASETS.get(name)(root=root, **{**settings, **changes})


def test_r2gens_mimic_layout(tmp_path: Path) -> None:
    def study(subject: int, study: int, film: str) -> dict[str, Any]:
        path = f"p{str(subject)[:2]}/p{subject}/s{study}/{film}.jpg"
        return {
            "id": film,
            "study_id": study,
            "subject_id": subject,
            "report": "FINDINGS:\nClear.",
            "image_path": [path],
        }

    splits = {"train": [study(10000032, 1, "f1")], "val": [study(11000001, 2, "f2")], "test": []}
    splits["test"] = [study(12000001, 3, "f3")]
    write(tmp_path, splits)
    dataset = published("mimic_cxr", tmp_path, cleaner=Cleaner.mimic_r2gengpt)
    row = dataset.load(tmp_path, 0)["train"][0]
    assert row["image_path"] == [str(tmp_path / "images/p10/p10000032/s1/f1.jpg")]
    assert (row["patient"], row["report"]) == ("10000032", "findings : clear .")
    assert not dataset.shareable

    splits["val"] = [study(10000032, 4, "f4")]
    write(tmp_path, splits)
    with pytest.raises(AnnotationError, match="patients in more than one split: 1: '10000032'"):
        dataset.load(tmp_path, 0)


def test_max_views_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_views must be at least 1, got 0"):
        source(tmp_path, max_views=0)


@pytest.mark.parametrize("name", ["annotation", "iu_xray", "mimic_cxr", "phantom"])
def test_the_yaml_lists_every_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("R2G_IU_XRAY", "R2G_MIMIC_CXR"):
        monkeypatch.delenv(variable, raising=False)
    values = OmegaConf.to_container(OmegaConf.load(REPO / "conf/data" / f"{name}.yaml"), resolve=True)
    fields = [f.name for f in dataclasses.fields(DATASETS.get(name))]
    assert isinstance(values, dict)
    assert set(values) == {"kind", *fields}


def test_real_films_in_this_format() -> None:
    folder = Path(os.environ.get("R2G_CXR_PAIRED", REPO.parent / "shared/data/cxr_paired"))
    if not folder.is_dir():
        pytest.skip("no cxr_paired: set R2G_CXR_PAIRED to its folder")
    data = source(folder, cleaner=Cleaner.iu).load(folder, 0)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 119, "val": 16, "test": 34}
    assert max(len(row["image_path"]) for row in data["train"]) == 2
    patients = {split: set(rows["patient"]) for split, rows in data.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 102


def phantom(**changes: int) -> Dataset:
    settings = {"train": 6, "val": 2, "test": 3, "size": 32, "max_views": 2, "data_seed": 0}
    return DATASETS.get("phantom")(**{**settings, **changes})


def test_phantom_is_drawn_once_and_follows_its_own_seed(tmp_path: Path) -> None:
    first = phantom().load(tmp_path, seed=0)
    assert {split: len(rows) for split, rows in first.items()} == {"train": 6, "val": 2, "test": 3}
    row = first["train"][0]
    assert isinstance(row["labels"], list)
    assert len(row["image_path"]) == 2
    film = Path(row["image_path"][0])
    assert tmp_path / "phantom" in film.parents
    drawn = film.stat().st_mtime_ns
    assert phantom().load(tmp_path, seed=1)["train"][:] == first["train"][:]
    assert film.stat().st_mtime_ns == drawn
    other = phantom(data_seed=1).load(tmp_path, seed=0)
    assert other["train"]["report"][:] != first["train"]["report"][:]
    assert phantom().shareable


def test_phantoms_mistakes_are_told_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"train must be at least 1; size .* 32; max_views must be at most 2"
    ):
        phantom(train=0, size=8, max_views=3)
