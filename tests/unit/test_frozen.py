"""Frozen work is done once: the same patches and films as without the cache, found by content."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from r2g import cache, frozen
from r2g.config.schema import CacheSettings, Precision, RunConfig
from r2g.core.turns import got, promise, turn_of
from r2g.data import Studies
from r2g.model import ReportGenerator, assemble
from r2g.session import tune

ON = CacheSettings(features=True, films=True, max_gb=1.0)


@pytest.fixture
def films(tmp_path: Path) -> tuple[list[list[str]], dict[str, str]]:
    """Four films, of which one is coloured and two are the same by content; three studies of one and two views."""
    random = np.random.default_rng(0)
    names = ["a", "b", "c", "d"]
    grey = [random.integers(0, 256, (40, 40), dtype=np.uint8) for _ in range(2)]
    pixels = [grey[0], grey[1], grey[0], random.integers(0, 256, (40, 40, 3), dtype=np.uint8)]
    paths = [str(tmp_path / f"{name}.png") for name in names]
    for path, values in zip(paths, pixels, strict=True):
        Image.fromarray(values).save(path)
    return [[paths[0], paths[1]], [paths[2]], [paths[3]]], dict(
        zip(paths, ("k0", "k1", "k0", "k3"), strict=True)
    )


def _model(config: RunConfig) -> ReportGenerator:
    model = assemble(config, torch.device("cpu"), torch.float32)
    tune(model, config)
    return model


def _studies(model: ReportGenerator, paths: list[list[str]], views: int = 2) -> Studies:
    count = len(paths)
    rows: dict[str, Any] = {"id": [str(i) for i in range(count)], "report": ["x"] * count}
    rows |= {"image_path": paths, "labels": [None] * count}
    return Studies(rows, model.encoder.preprocess, views, [[1]] * count)  # type: ignore[arg-type]


def _attach(
    model: ReportGenerator, studies: Studies, keys: dict[str, str], folder: Path, **more: Any
) -> frozen.Reuse:
    settings = replace(ON, **more)
    needed = [(studies, range(len(studies)))]
    return frozen.attach(settings, model, needed, keys, folder, Precision.fp32, Accelerator(cpu=True))


def test_kept_patches_are_what_the_encoder_gives(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path
) -> None:
    model, (paths, keys) = _model(small()), films
    plain, kept = _studies(model, paths), _studies(model, paths)
    told = _attach(model, kept, keys, tmp_path / "cache")
    assert (told.what, told.found, told.made) == ("features", 0, 3)  # one film is there twice
    for i in range(3):
        with torch.no_grad():
            wanted = model.patches(torch.stack(plain.films(i)))
        torch.testing.assert_close(torch.stack(kept.films(i)), wanted, atol=1e-5, rtol=1e-5)
    again = _attach(model, _studies(model, paths), keys, tmp_path / "cache")
    assert (again.found, again.made) == (3, 0)


def test_a_later_view_that_nobody_reads_is_not_encoded(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path
) -> None:
    model, (paths, keys) = _model(small()), films
    assert _attach(model, _studies(model, paths, views=1), keys, tmp_path).made == 2


@pytest.mark.parametrize("change", ["encoder.select=pooled", "encoder.size=64", "encoder.mean=[0.4,0.4,0.4]"])
def test_what_an_encoder_does_with_the_same_weights_is_kept_apart(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    change: str,
) -> None:
    """Pooled to one patch, all have rows of one shape: nothing but the key tells them apart."""
    paths, keys = films
    for words in ((), (change,)):
        model = _model(small("projector.pool=1", *words))
        plain, kept = _studies(model, paths), _studies(model, paths)
        told = _attach(model, kept, keys, tmp_path)
        assert (told.found, told.made) == (0, 3)
        with torch.no_grad():
            wanted = model.patches(torch.stack(plain.films(0)))
        torch.testing.assert_close(torch.stack(kept.films(0)), wanted, atol=1e-5, rtol=1e-5)
    assert len([place for place in (tmp_path / "features").iterdir() if place.is_dir()]) == 2


@pytest.mark.parametrize("mode", ["tuning=shallow", "tuning=deep"])
def test_films_that_were_decoded_otherwise_are_made_anew(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, (paths, keys) = _model(small(mode)), films
    for decoding in ("one", "another"):
        monkeypatch.setattr(frozen, "_DECODING", decoding)
        told = _attach(model, _studies(model, paths), keys, tmp_path)
        assert (told.found, told.made) == (0, 3)


@pytest.mark.parametrize("change", ["weights", "precision", "pool"])
def test_another_encoder_has_patches_of_its_own(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    change: str,
) -> None:
    model, (paths, keys) = _model(small()), films
    _attach(model, _studies(model, paths), keys, tmp_path)
    precision = Precision.fp32
    if change == "weights":
        with torch.no_grad():
            next(model.encoder.parameters()).add_(1e-3)
    elif change == "pool":
        model = _model(small("projector.pool=1"))
    else:
        precision = Precision.bf16
    needed = [(_studies(model, paths), range(3))]
    told = frozen.attach(ON, model, needed, keys, tmp_path, precision, Accelerator(cpu=True))
    assert (told.found, told.made) == (0, 3)


@pytest.mark.parametrize("mode", ["tuning=deep", "tuning=delta", "tuning.frozen_mode=train"])
def test_an_encoder_that_learns_or_drops_reads_kept_films(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path, mode: str
) -> None:
    model, (paths, keys) = _model(small(mode)), films
    plain, kept = _studies(model, paths), _studies(model, paths)
    assert _attach(model, kept, keys, tmp_path).what == "films"
    for i in range(3):
        assert torch.equal(torch.stack(kept.films(i)), torch.stack(plain.films(i)))
    grey = frozen._film_stores(model.encoder.preprocess, tmp_path / "films")[0]  # type: ignore[arg-type]
    assert grey.shape[0] == 1
    assert [key in grey for key in ("k0", "k1", "k3")] == [True, True, False]


def test_what_has_no_room_is_read_anew_and_said(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, (paths, keys) = _model(small()), films
    studies = _studies(model, paths)
    with caplog.at_level(logging.WARNING):
        told = _attach(model, studies, keys, tmp_path, max_gb=1e-6)
    assert told.what == "none"
    assert studies.kept is None
    assert "3 films would need" in caplog.text
    assert "cache.max_gb" in caplog.text


@pytest.mark.parametrize("mode", ["tuning=shallow", "tuning=deep"])
def test_of_two_runs_one_makes_the_rows_and_the_other_waits_for_them(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (paths, keys), begun, go = films, Event(), Event()
    model, real = _model(small(mode)), frozen.decoded

    def slow(path: str, size: int, channels: int) -> torch.Tensor:
        begun.set()
        assert go.wait(60)
        return real(path, size, channels)

    monkeypatch.setattr(frozen, "decoded", slow)
    with ThreadPoolExecutor(2) as pool, caplog.at_level(logging.WARNING):
        runs = [pool.submit(_attach, model, _studies(model, paths), keys, tmp_path)]
        assert begun.wait(60)
        runs.append(pool.submit(_attach, model, _studies(model, paths), keys, tmp_path))
        deadline = time.monotonic() + 60
        while "waiting for it" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        go.set()
        told = [run.result(60) for run in runs]
    assert [(one.found, one.made) for one in told] == [(0, 3), (3, 0)]
    assert len(list(tmp_path.rglob("*.bin"))) == (1 if mode == "tuning=shallow" else 2)
    assert list(tmp_path.rglob(".promise*")) == []


def test_runs_that_write_elsewhere_leave_room_for_what_was_promised(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path
) -> None:
    model, (paths, keys) = _model(small()), films
    other = tmp_path / "features" / "other"
    turn = turn_of(other)
    assert got(turn)
    assert promise(tmp_path, ("features", "films"), other, 900_000, 1e6)[0]
    few = {"max_gb": 900_100 / 2**30}
    assert _attach(model, _studies(model, paths), keys, tmp_path, **few).what == "none"
    turn.release()
    assert _attach(model, _studies(model, paths), keys, tmp_path, **few).made == 3


@pytest.mark.parametrize("mode", ["tuning=shallow", "tuning=deep"])
def test_a_second_process_makes_its_share_of_what_the_first_finds_missing(
    small: Callable[..., RunConfig],
    films: tuple[list[list[str]], dict[str, str]],
    tmp_path: Path,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it sees itself: another run may have added rows between the two looks."""
    model, (paths, keys) = _model(small(mode)), films
    said: list[Any] = [["k0", "k1", "k3"], False, True, (["k1", "k3"], True)]

    def hear(told: list[Any]) -> list[Any]:
        assert told == [None]
        told[0] = said.pop(0)
        return told

    monkeypatch.setattr(frozen, "broadcast_object_list", hear)
    for name, value in {"is_main_process": False, "process_index": 1, "num_processes": 2}.items():
        monkeypatch.setattr(Accelerator, name, property(lambda self, value=value: value))
    studies = _studies(model, paths)
    told = _attach(model, studies, keys, tmp_path)
    assert (told.found, told.made) == (1, 2)
    assert said == []
    store = (studies.kept if told.what == "features" else studies.decode).stores[-1]  # type: ignore[union-attr]
    assert [key in store for key in ("k0", "k1", "k3")] == [False, False, True]


def test_the_report_counts_rows_and_a_dropped_store_is_gone(
    small: Callable[..., RunConfig], films: tuple[list[list[str]], dict[str, str]], tmp_path: Path
) -> None:
    model, (paths, keys) = _model(small()), films
    _attach(model, _studies(model, paths), keys, tmp_path)
    line = next(text for text in cache.report(tmp_path).splitlines() if text.startswith("features/"))
    assert line.split()[1] == "3"
    cache.drop(tmp_path, line.split()[0])
    assert "features/" not in cache.report(tmp_path)
    with pytest.raises(SystemExit, match="has no"):
        cache.drop(tmp_path, "../elsewhere")
