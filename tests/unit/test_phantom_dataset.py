"""A phantom folder: the same on any number of processes, whole or absent, in R2Gen's format."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2g.phantom import dataset
from r2g.phantom.dataset import draw_dataset, study_rng, write_reports
from r2g.phantom.findings import CODES, LABELS, draw_case
from r2g.phantom.read import read
from r2g.phantom.words import POOLS, keywords, report


def content(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha1(path.read_bytes()).hexdigest() for path in files}


def test_the_annotation_has_r2gens_format(tmp_path: Path) -> None:
    sizes = {"train": 5, "val": 2, "test": 0}
    path = draw_dataset(tmp_path / "p", sizes, size_px=48, views=2, progress=False)
    annotation = json.loads(path.read_text())
    assert {split: len(studies) for split, studies in annotation.items()} == sizes
    studies = annotation["train"] + annotation["val"]
    assert len({study["id"] for study in studies}) == len({study["patient"] for study in studies}) == 7
    for study in studies:
        assert set(study["labels"]) <= set(LABELS)
        assert read(study["report"]) == set(study["labels"])
        assert len(study["image_path"]) == 2
        for name in study["image_path"]:
            with Image.open(path.parent / "images" / name) as film:
                assert (film.size, film.mode) == ((48, 48), "L")


def test_processes_do_not_matter(tmp_path: Path) -> None:
    """Enough studies that the pool is really used."""
    sizes = {"train": 5 * dataset._CHUNK, "val": 3, "test": 3}
    for name, processes in (("one", 1), ("two", 2)):
        draw_dataset(tmp_path / name, sizes, size_px=32, processes=processes, progress=False)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_study_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = draw_dataset(tmp_path / "few", {"train": 2}, size_px=32, progress=False)
    many = draw_dataset(tmp_path / "many", {"test": 1, "train": 4}, size_px=32, progress=False)
    assert json.loads(few.read_text())["train"] == json.loads(many.read_text())["train"][:2]
    told = {study["id"]: study["report"] for study in json.loads(many.read_text())["train"]}
    assert write_reports({"train": 4}, seed=0) == {"train": told}
    assert content(tmp_path / "few").items() - content(tmp_path / "many").items() == {
        (name, content(tmp_path / "few")[name]) for name in ("annotation.json", "phantom.json")
    }


def test_splits_and_seeds_differ(tmp_path: Path) -> None:
    first = draw_dataset(tmp_path / "a", {"train": 3, "test": 3}, size_px=32, seed=0, progress=False)
    second = draw_dataset(tmp_path / "b", {"train": 3, "test": 3}, size_px=32, seed=1, progress=False)
    drawn = [json.loads(path.read_text())[split] for path in (first, second) for split in ("train", "test")]
    assert len({study["report"] for studies in drawn for study in studies}) == 12


def test_a_second_call_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = draw_dataset(tmp_path / "p", {"train": 3}, size_px=32, progress=False)
    monkeypatch.setattr(dataset, "_draw_all", None)
    assert draw_dataset(tmp_path / "p", {"train": 3}, size_px=32, progress=False) == path
    with pytest.raises(FileExistsError, match="other things"):
        draw_dataset(tmp_path / "p", {"train": 4}, size_px=32, progress=False)


def test_a_stopped_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(job, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "_draw_study", stop)
    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path / "p", {"train": 3}, size_px=32, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_all_bad_settings_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sizes\.train is -1.*size_px is 8.*views is 3"):
        draw_dataset(tmp_path / "p", {"train": -1}, size_px=8, views=3)


@pytest.mark.slow
def test_the_pools_of_reports_are_disjoint() -> None:
    """The llm's pretraining never sees a report of the data."""
    texts = {
        pool: {report(draw_case(rng), rng, pool) for rng in (study_rng(0, pool, i) for i in range(2500))}
        for pool in POOLS
    }
    assert len(POOLS) == 2
    assert not set.intersection(*texts.values())
    with pytest.raises(ValueError, match="not in tuple"):
        report(draw_case(np.random.default_rng(0)), np.random.default_rng(0), "nowhere")


def test_key_words_are_the_codes_of_the_case() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        case = draw_case(rng)
        named = keywords(case, rng).split()
        assert sorted(named) == sorted(finding.code for finding in case.findings) or named == ["none"]
        assert set(named) - {"none"} <= set(CODES)
